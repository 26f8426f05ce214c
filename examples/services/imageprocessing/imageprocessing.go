// Package imageprocessing is an example of a service that takes files: it tells what a picture is and makes it smaller,
// at a price for each operation. The size that a picture names is checked before a pixel is decoded, so that a small
// file cannot take all memory.
//
// Register it with services.Register(app.Services, imageprocessing.Service{}), then:
//
//	curl -H 'Authorization: Bearer KEY' -F image=@photo.jpg -F operation=resize -F width=320 \
//	  http://127.0.0.1:8080/api/v1/services/image-processing
//
// Its tests run with go test ./examples/services/imageprocessing.
package imageprocessing

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // a format that is read
	"image/jpeg"
	"image/png"
	"path"
	"strings"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // a format that is read

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// The operations.
const (
	Metadata = "metadata"
	Resize   = "resize"
)

// Input is what a caller sends.
type Input struct {
	Image services.File `accept:"image/png,image/jpeg,image/gif,image/webp" description:"PNG, JPEG, GIF or WebP, at most 10 MB and 40 megapixels." json:"image" title:"Picture" validate:"required"`
	// Operation is one of the constants. Empty: metadata.
	Operation string `description:"Without a choice the picture is only looked at." enum:"metadata,resize" json:"operation,omitempty" title:"Operation"`
	// Width and Height bound the resized picture, which keeps its proportions and never grows. 0: no bound; one is needed.
	Width  int `description:"For resize: the widest that it may be, in pixels."  json:"width"  title:"Width"  validate:"min=0,max=8000"`
	Height int `description:"For resize: the highest that it may be, in pixels." json:"height" title:"Height" validate:"min=0,max=8000"`
	// Format is that of the resized picture. Empty: PNG for a PNG or GIF, else JPEG.
	Format string `description:"Of the resized picture; without a choice as it was, or JPEG." enum:"png,jpeg" json:"format,omitempty" title:"Format"`
}

// Output has what the picture is, and the resized picture where one was asked for.
type Output struct {
	Format string `json:"format"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Bytes  int    `json:"bytes"`
	// Aspect is the width divided by the height, such as "4:3".
	Aspect string `json:"aspect"`
	// Transparent says that the format and colours of the picture let it have transparent parts.
	Transparent bool     `json:"transparent"`
	Resized     *Resized `json:"resized,omitempty"`
}

// Resized is a picture that was made.
type Resized struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	// Data is the file, in base64.
	Data []byte `json:"data"`
}

// Service is the service, ready to register.
type Service struct{}

// Info implements services.Service.
func (Service) Info() services.Info {
	return services.Info{
		Name: "image-processing", Title: "Image processing", Version: "1.0.0", Tags: []string{"image"},
		Summary: "Tells what a picture is, and makes it smaller.",
	}
}

// Pricing implements services.Service.
func (Service) Pricing() services.Pricing {
	return services.Table(map[string]credits.Amount{Metadata: credits.MustAmount("0.2"), Resize: credits.Credit},
		func(in Input) string { return cmp.Or(in.Operation, Metadata) })
}

// maxPixels bounds what a picture may unfold to. Decoded it takes up to 8 bytes a pixel.
const maxPixels = 40_000_000

// Execute implements services.Service.
func (Service) Execute(ctx context.Context, _ *services.Call, in Input) (Output, error) {
	resize := in.Operation == Resize
	if resize && in.Width == 0 && in.Height == 0 {
		return Output{}, services.Failure("To resize a picture, give a width or a height.")
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(in.Image.Data))
	if err != nil || config.Width < 1 || config.Height < 1 {
		return Output{}, services.Failure("This is not a picture that can be read.")
	}
	if config.Width > maxPixels/config.Height {
		return Output{}, services.Failure("The picture has more than 40 megapixels.")
	}
	out := Output{
		Format: format, Width: config.Width, Height: config.Height, Bytes: len(in.Image.Data), Aspect: aspect(config.Width, config.Height),
		Transparent: transparent(config.ColorModel),
	}
	if !resize {
		return out, nil
	}
	picture, _, err := image.Decode(bytes.NewReader(in.Image.Data))
	if err != nil {
		return Output{}, services.Failure("The picture is damaged.")
	}
	if err := ctx.Err(); err != nil {
		return Output{}, err
	}
	out.Resized, err = shrink(picture, in, cmp.Or(in.Format, formatFor(format)))
	return out, err
}

// formatFor is the format of a resized picture: one that can hold what the original could.
func formatFor(original string) string {
	if original == "png" || original == "gif" {
		return "png"
	}
	return "jpeg"
}

func aspect(width, height int) string {
	a, b := width, height
	for b > 0 {
		a, b = b, a%b
	}
	return fmt.Sprintf("%d:%d", width/a, height/a)
}

func transparent(m color.Model) bool {
	if palette, ok := m.(color.Palette); ok {
		for _, c := range palette {
			if _, _, _, a := c.RGBA(); a < 0xffff {
				return true
			}
		}
		return false
	}
	return m == color.NRGBAModel || m == color.NRGBA64Model || m == color.RGBAModel || m == color.RGBA64Model || m == color.NYCbCrAModel
}

// fit is the largest size within bounds, of which 0 is none, that has the proportions of another and is not larger.
func fit(width, height, maxWidth, maxHeight int) (w, h int) {
	w, h = width, height
	if maxWidth > 0 && w > maxWidth {
		w, h = maxWidth, (height*maxWidth+width/2)/width
	}
	if maxHeight > 0 && h > maxHeight {
		w, h = (width*maxHeight+height/2)/height, maxHeight
	}
	return max(1, w), max(1, h)
}

const quality = 85

func shrink(picture image.Image, in Input, format string) (*Resized, error) {
	from := picture.Bounds()
	w, h := fit(from.Dx(), from.Dy(), in.Width, in.Height)
	small := image.NewNRGBA(image.Rect(0, 0, w, h))
	op := draw.Src
	if format == "jpeg" { // which has no transparency: what shows through is white
		draw.Draw(small, small.Bounds(), image.White, image.Point{}, draw.Src)
		op = draw.Over
	}
	draw.CatmullRom.Scale(small, small.Bounds(), picture, from, op, nil)
	var data bytes.Buffer
	var err error
	if format == "jpeg" {
		err = jpeg.Encode(&data, small, &jpeg.Options{Quality: quality})
	} else {
		err = png.Encode(&data, small)
	}
	if err != nil {
		return nil, fmt.Errorf("imageprocessing: write a %s: %w", format, err)
	}
	base := strings.TrimSuffix(in.Image.Name, path.Ext(in.Image.Name))
	name := fmt.Sprintf("%s-%dx%d.%s", cmp.Or(base, "picture"), w, h, strings.Replace(format, "jpeg", "jpg", 1))
	return &Resized{Name: name, Type: "image/" + format, Width: w, Height: h, Data: data.Bytes()}, nil
}
