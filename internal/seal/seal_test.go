package seal_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/internal/seal"
)

func TestBox_OpensOnlyWhatItSealed(t *testing.T) {
	t.Parallel()
	secret := seal.RandomKey()
	box, err := seal.New(secret, "mail")
	require.NoError(t, err)
	otherPurpose, err := seal.New(secret, "totp")
	require.NoError(t, err)
	otherKey, err := seal.New(seal.RandomKey(), "mail")
	require.NoError(t, err)

	rapid.Check(t, func(rt *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(rt, "plain")
		sealed := box.Seal(plain)
		opened, err := box.Open(sealed)
		require.NoError(rt, err)
		require.Equal(rt, string(plain), string(opened))

		_, err = otherPurpose.Open(sealed)
		require.ErrorIs(rt, err, seal.ErrOpen)
		_, err = otherKey.Open(sealed)
		require.ErrorIs(rt, err, seal.ErrOpen)

		changed := append([]byte(nil), sealed...)
		changed[rapid.IntRange(0, len(changed)-1).Draw(rt, "at")] ^= 1
		_, err = box.Open(changed)
		require.ErrorIs(rt, err, seal.ErrOpen)
		_, err = box.Open(sealed[:rapid.IntRange(0, len(sealed)-1).Draw(rt, "cut")])
		require.ErrorIs(rt, err, seal.ErrOpen)
	})
}

func TestNew_ShortSecretIsRefused(t *testing.T) {
	t.Parallel()
	_, err := seal.New(make([]byte, seal.MinKeyBytes-1), "mail")
	require.ErrorContains(t, err, "needs 32 or more")
}
