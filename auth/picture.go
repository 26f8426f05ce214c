package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // pictures come in these forms
	_ "image/jpeg" // and leave as PNG
	"image/png"
	"io"
	"mime/multipart"
	"net/http"

	"github.com/jmoiron/sqlx"
	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // see above

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Bounds of a picture: of the file that is sent, of its pixels, which take 4 bytes each once decoded, and of the sides of
// what is kept.
const (
	MaxPictureBytes  = 5 << 20
	maxPicturePixels = 16 << 20
	pictureSide      = 256
)

// ErrNoPicture says that there is no such picture.
var ErrNoPicture error = problem.New(problem.CodeNotFound, "There is no such picture.")

func invalidPicture(message string) error {
	return problem.Invalid(map[string]string{"picture": message})
}

// encodePicture checks the size and the form before anything is decoded, and makes a new picture of the pixels alone:
// what the file said besides, such as the place where it was taken, is gone. The middle square is kept.
func encodePicture(data []byte) ([]byte, error) {
	if len(data) > MaxPictureBytes {
		return nil, invalidPicture("Use a picture of at most 5 MB.")
	}
	head, form, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || head.Width < 1 || head.Height < 1 {
		return nil, invalidPicture("Use a PNG, JPEG, GIF or WebP picture.")
	}
	if head.Width > maxPicturePixels/head.Height {
		return nil, invalidPicture("Use a picture of at most 16 million pixels.")
	}
	decoded, got, err := image.Decode(bytes.NewReader(data))
	if err != nil || got != form {
		return nil, invalidPicture("This picture is damaged. Use another one.")
	}
	b := decoded.Bounds()
	side := min(b.Dx(), b.Dy())
	corner := image.Pt(b.Min.X+(b.Dx()-side)/2, b.Min.Y+(b.Dy()-side)/2)
	out := image.NewNRGBA(image.Rect(0, 0, min(side, pictureSide), min(side, pictureSide)))
	draw.CatmullRom.Scale(out, out.Bounds(), decoded, image.Rectangle{corner, corner.Add(image.Pt(side, side))}, draw.Src, nil)
	var buf bytes.Buffer
	if err := png.Encode(&buf, out); err != nil {
		return nil, fmt.Errorf("auth: encode a picture: %w", err)
	}
	return buf.Bytes(), nil
}

// SetPicture replaces a person's picture by the middle of a PNG, JPEG, GIF (its first frame) or WebP file of at most 5 MB
// and 16 million pixels, encoded anew at 256 pixels a side at most. [ErrNotFound]; a problem of code "invalid" for the
// field "picture".
func (a *Auth) SetPicture(ctx context.Context, userID string, data []byte) error {
	encoded, err := encodePicture(data)
	if err != nil {
		return err
	}
	id, err := newID()
	if err != nil {
		return err
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err := a.lockUser(ctx, tx, userID)
		if err != nil {
			return err
		}
		const write = `INSERT INTO qs_auth_pictures (user_id, id, png, created_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (user_id) DO UPDATE SET id = excluded.id, png = excluded.png, created_at = excluded.created_at`
		if _, err := a.db.ExecTx(ctx, tx, write, u.ID, id, encoded, database.At(a.now())); err != nil {
			return fmt.Errorf("auth: write the picture of user %s: %w", u.ID, err)
		}
		return nil
	})
}

// RemovePicture deletes a person's picture, if there is one.
func (a *Auth) RemovePicture(ctx context.Context, userID string) error {
	if !isID(userID) {
		return ErrNotFound
	}
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := a.db.ExecTx(ctx, tx, `DELETE FROM qs_auth_pictures WHERE user_id = ?`, userID); err != nil {
			return fmt.Errorf("auth: delete the picture of user %s: %w", userID, err)
		}
		return nil
	})
}

// PictureID names a person's picture; "" when there is none. A new picture has a new id.
func (a *Auth) PictureID(ctx context.Context, userID string) (id string, err error) {
	if !isID(userID) {
		return "", nil
	}
	err = a.db.Get(ctx, &id, `SELECT id FROM qs_auth_pictures WHERE user_id = ?`, userID)
	if err != nil && !database.IsNoRows(err) {
		return "", fmt.Errorf("auth: picture of user %s: %w", userID, err)
	}
	return id, nil
}

// Picture returns a picture as PNG by its id; [ErrNoPicture].
func (a *Auth) Picture(ctx context.Context, id string) (data []byte, err error) {
	if !isID(id) {
		return nil, ErrNoPicture
	}
	err = a.db.Get(ctx, &data, `SELECT png FROM qs_auth_pictures WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return nil, ErrNoPicture
	}
	if err != nil {
		return nil, fmt.Errorf("auth: picture %s: %w", id, err)
	}
	return data, nil
}

// showPicture serves a picture to those who are signed in. It never changes under its id, and no browser takes it for
// anything but an image.
func (a *Auth) showPicture(w http.ResponseWriter, r *http.Request, _ User) {
	data, err := a.Picture(r.Context(), r.PathValue("id"))
	if err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/png")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", `inline; filename="picture.png"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cache-Control", "private, max-age=86400, immutable")
	_, _ = w.Write(data) // the client is gone; there is nobody to tell
}

func (a *Auth) postPicture(w http.ResponseWriter, r *http.Request, u User) {
	data, err := readPicture(w, r)
	if err == nil {
		err = a.SetPicture(r.Context(), u.ID, data)
	}
	if err != nil {
		a.rejectProfile(w, r, u, nil, err)
		return
	}
	a.done(w, r, "Your picture is changed.", "/profile")
}

func (a *Auth) postRemovePicture(w http.ResponseWriter, r *http.Request, u User) {
	if err := a.RemovePicture(r.Context(), u.ID); err != nil {
		a.cfg.Site.Fail(w, r, err)
		return
	}
	a.done(w, r, "Your picture is removed.", "/profile")
}

// readPicture reads the part "picture" of a form, and keeps nothing on disk.
func readPicture(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	r.Body = http.MaxBytesReader(w, r.Body, MaxPictureBytes+4096)
	form, err := r.MultipartReader()
	if err != nil {
		return nil, invalidPicture("Choose a picture first.")
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, invalidPicture("Choose a picture first.")
		}
		if err != nil {
			return nil, pictureError(err)
		}
		if part.FormName() == "picture" {
			return readPart(part)
		}
	}
}

func readPart(part *multipart.Part) ([]byte, error) {
	data, err := io.ReadAll(part)
	if err != nil {
		return nil, pictureError(err)
	}
	if len(data) == 0 {
		return nil, invalidPicture("Choose a picture first.")
	}
	return data, nil
}

func pictureError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return invalidPicture("Use a picture of at most 5 MB.")
	}
	return invalidPicture("This picture did not arrive whole. Send it again.")
}
