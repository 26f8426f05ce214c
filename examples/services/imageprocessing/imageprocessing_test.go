package imageprocessing_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/examples/services/imageprocessing"
	"github.com/quickscale/quickscale/services"
)

// halves is a picture whose left half has another colour than its right one.
func halves(width, height int, left, right color.Color) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := left
			if x >= width/2 {
				c = right
			}
			m.Set(x, y, c)
		}
	}
	return m
}

func encoded(t *testing.T, encode func(out *bytes.Buffer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, encode(&out))
	return out.Bytes()
}

func execute(t *testing.T, in imageprocessing.Input) (imageprocessing.Output, error) {
	t.Helper()
	return imageprocessing.Service{}.Execute(t.Context(), services.NewCall("image-processing", "ada"), in)
}

func file(data []byte) services.File { return services.File{Name: "holiday.photo.png", Data: data} }

func TestPrice_IsTheOperations(t *testing.T) {
	t.Parallel()
	for op, want := range map[string]string{"": "0.2", "metadata": "0.2", "resize": "1"} {
		got, err := imageprocessing.Service{}.Pricing().Of(imageprocessing.Input{Operation: op})
		require.NoError(t, err)
		assert.Equal(t, want, got.String(), op)
	}
}

func TestMetadata_OfEachFormat(t *testing.T) {
	t.Parallel()
	m := halves(64, 48, color.NRGBA{200, 10, 10, 255}, color.NRGBA{10, 10, 200, 128})
	palette := image.NewPaletted(m.Bounds(), color.Palette{color.White, color.Black})
	for format, c := range map[string]struct {
		data        []byte
		transparent bool
	}{
		"png":  {encoded(t, func(out *bytes.Buffer) error { return png.Encode(out, m) }), true},
		"jpeg": {encoded(t, func(out *bytes.Buffer) error { return jpeg.Encode(out, m, nil) }), false},
		"gif":  {encoded(t, func(out *bytes.Buffer) error { return gif.Encode(out, palette, nil) }), false},
	} {
		out, err := execute(t, imageprocessing.Input{Image: file(c.data)})
		require.NoError(t, err, format)
		assert.Equal(t, imageprocessing.Output{Format: format, Width: 64, Height: 48, Bytes: len(c.data), Aspect: "4:3", Transparent: c.transparent}, out)
	}
}

// A picture as it comes: one of the repository's own documentation.
func TestResize_ARealPicture(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../../docs/images/service.png")
	require.NoError(t, err)
	before, err := execute(t, imageprocessing.Input{Image: file(data)})
	require.NoError(t, err)
	out, err := execute(t, imageprocessing.Input{Image: file(data), Operation: imageprocessing.Resize, Width: 320})
	require.NoError(t, err)
	require.NotNil(t, out.Resized)
	assert.Equal(t, "image/png", out.Resized.Type)
	assert.Less(t, len(out.Resized.Data), len(data))
	small, format, err := image.Decode(bytes.NewReader(out.Resized.Data))
	require.NoError(t, err)
	assert.Equal(t, "png", format)
	assert.Equal(t, 320, small.Bounds().Dx())
	assert.InDelta(t, 320*float64(before.Height)/float64(before.Width), small.Bounds().Dy(), 1)
}

func TestResize_KeepsProportionsAndColoursAndNeverGrows(t *testing.T) {
	t.Parallel()
	data := encoded(t, func(out *bytes.Buffer) error {
		return png.Encode(out, halves(100, 50, color.NRGBA{200, 0, 0, 255}, color.NRGBA{0, 0, 200, 0}))
	})
	for _, c := range []struct{ width, height, wantWidth, wantHeight int }{
		{50, 0, 50, 25}, {0, 10, 20, 10}, {50, 10, 20, 10}, {10, 40, 10, 5}, {1000, 1000, 100, 50}, {1, 0, 1, 1},
	} {
		out, err := execute(t, imageprocessing.Input{Image: file(data), Operation: imageprocessing.Resize, Width: c.width, Height: c.height})
		require.NoError(t, err)
		assert.Equal(t, []int{c.wantWidth, c.wantHeight}, []int{out.Resized.Width, out.Resized.Height}, "%+v", c)
	}

	out, err := execute(t, imageprocessing.Input{Image: file(data), Operation: imageprocessing.Resize, Width: 50})
	require.NoError(t, err)
	assert.Equal(t, "holiday.photo-50x25.png", out.Resized.Name)
	small, err := png.Decode(bytes.NewReader(out.Resized.Data))
	require.NoError(t, err)
	assert.Equal(t, color.NRGBA{200, 0, 0, 255}, color.NRGBAModel.Convert(small.At(5, 12)))
	assert.Zero(t, color.NRGBAModel.Convert(small.At(45, 12)).(color.NRGBA).A, "what was transparent stays so")

	out, err = execute(t, imageprocessing.Input{Image: file(data), Operation: imageprocessing.Resize, Width: 50, Format: "jpeg"})
	require.NoError(t, err)
	assert.Equal(t, "holiday.photo-50x25.jpg", out.Resized.Name)
	small, err = jpeg.Decode(bytes.NewReader(out.Resized.Data))
	require.NoError(t, err)
	r, g, b, _ := small.At(45, 12).RGBA()
	assert.InDelta(t, 0xffff, (r+g+b)/3, 0x0800, "white shows through where the format has no transparency")
}

func TestRefusals_SayWhatToDo(t *testing.T) {
	t.Parallel()
	whole := encoded(t, func(out *bytes.Buffer) error { return png.Encode(out, halves(64, 64, color.White, color.Black)) })
	bomb := bytes.Clone(whole)
	binary.BigEndian.PutUint32(bomb[16:], 60_000) // the width and height of the IHDR chunk
	binary.BigEndian.PutUint32(bomb[20:], 60_000)
	binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(bomb[12:29]))
	for says, in := range map[string]imageprocessing.Input{
		"width or a height":  {Image: file(whole), Operation: imageprocessing.Resize},
		"can be read":        {Image: file([]byte("<svg/>"))},
		"40 megapixels":      {Image: file(bomb), Operation: imageprocessing.Resize, Width: 10},
		"picture is damaged": {Image: file(whole[:len(whole)-40]), Operation: imageprocessing.Resize, Width: 10},
	} {
		_, err := execute(t, in)
		require.ErrorContains(t, err, says)
	}
}
