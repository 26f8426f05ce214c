// Package seal encrypts what the library must keep and read again, such as a mail that waits to be sent and holds a
// link. What need only be recognised (tokens, keys) is hashed instead, and never comes here.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// MinKeyBytes is the shortest secret that New takes.
const MinKeyBytes = 32

const version = 1

// ErrOpen is returned for data that was not sealed with this key for this purpose, or was changed.
var ErrOpen = errors.New("seal: the data cannot be opened with this key")

// Box seals with AES-256-GCM under a key derived from a secret (HKDF-SHA256, RFC 5869) for one purpose. It is safe for
// concurrent use.
type Box struct{ aead cipher.AEAD }

// New derives the key for purpose, a fixed name such as "mail", from secret, at least [MinKeyBytes] long. Boxes of
// other purposes cannot open what this one seals.
func New(secret []byte, purpose string) (*Box, error) {
	if len(secret) < MinKeyBytes {
		return nil, fmt.Errorf("seal: the secret has %d bytes; it needs %d or more", len(secret), MinKeyBytes)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "quickscale/"+purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("seal: derive the key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Box{aead: aead}, nil
}

// Seal encrypts plain. The result is 29 bytes longer and differs at each call.
func (b *Box) Seal(plain []byte) []byte {
	out := make([]byte, 1, 1+len(plain)+b.aead.Overhead())
	out[0] = version
	return b.aead.Seal(out, nil, plain, out[:1])
}

// Open decrypts what Seal returned; [ErrOpen] when it cannot.
func (b *Box) Open(sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != version {
		return nil, ErrOpen
	}
	plain, err := b.aead.Open(nil, nil, sealed[1:], sealed[:1])
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// RandomKey returns 32 random bytes, a secret for [New].
func RandomKey() []byte {
	key := make([]byte, MinKeyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand documentation)
	return key
}
