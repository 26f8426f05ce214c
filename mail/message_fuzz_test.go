package mail

import (
	"bytes"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A message that Validate lets through has the headers that we give it and no others, whatever its parts say.
func FuzzMessage_StaysOneMessage(f *testing.F) {
	f.Add("ada@example.com", "Ada", "Hello", "text", "<p>html</p>")
	f.Add("ada@example.com\r\nBcc: eve@example.com", "Ada\nBcc: eve@example.com", "a\r\n\r\nb", "text", "")
	f.Add("ada@example.com", `A "quoted\" <eve@example.com>`, strings.Repeat("x", 68)+"  "+strings.Repeat("y", 80)+"  "+strings.Repeat("z", 80), ".\r\n.", "")
	f.Add("a@b", "=?utf-8?q?a=0D=0ABcc:_eve?=", "=?utf-8?q?a=0D=0ABcc:_eve?= ä", "t", "h")
	f.Add("ö@bücher.example", strings.Repeat("ö", 255), "\u00a0"+strings.Repeat("ñ€", 120), "t", "h")
	sender, err := NewSMTP(SMTPConfig{URL: "smtp://127.0.0.1", From: "Acme <accounts@acme.example>"})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, to, name, subject, text, html string) {
		m := Message{Kind: "fuzz", To: to, ToName: name, Subject: subject, Text: text, HTML: html}
		if m.Validate() != nil {
			return
		}
		require.False(t, strings.ContainsAny(to+name+subject, "\r\n\x00"))
		var raw bytes.Buffer
		_, err := sender.message(m).WriteTo(&raw)
		require.NoError(t, err)
		head, _, ok := strings.Cut(raw.String(), "\r\n\r\n")
		require.True(t, ok)
		for line := range strings.SplitSeq(head, "\r\n") {
			require.NotEmpty(t, strings.TrimSpace(line), "some servers end the headers at a line of spaces")
			require.NotContains(t, line, "\r")
			require.NotContains(t, line, "\n")
			require.LessOrEqual(t, len(line), 998, "RFC 5322, 2.1.1")
		}
		msg, err := mail.ReadMessage(&raw)
		require.NoError(t, err)
		names := make([]string, 0, len(msg.Header))
		for name, values := range msg.Header {
			require.Len(t, values, 1, name)
			names = append(names, name)
		}
		slices.Sort(names)
		want := []string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
		if html != "" {
			want = slices.Delete(want, 1, 2) // that of each part
		}
		require.Equal(t, want, names)
		decoded, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
		require.NoError(t, err)
		require.Equal(t, oneLine(subject), decoded)
		addresses, err := msg.Header.AddressList("To")
		require.NoError(t, err)
		require.Len(t, addresses, 1)
		require.Equal(t, asciiAddress(to), addresses[0].Address)
	})
}

func FuzzLinkify_LosesNothingAndLinksHTTPOnly(f *testing.F) {
	f.Add("see https://a.example/x?y=(z)). Or http://b.example, javascript:alert(1) HTTPS://C.EXAMPLE/…")
	f.Add("https:// http://) [https://a.example/[1]] \"https://a\"b")
	f.Fuzz(func(t *testing.T, text string) {
		var all strings.Builder
		for _, r := range linkify(text) {
			all.WriteString(r.Text)
			if r.URL != "" {
				require.Equal(t, r.Text, r.URL)
				require.Regexp(t, `^(?i)https?://[^\s<>"'\\]+$`, r.URL)
			}
			require.NotEmpty(t, r.Text)
		}
		require.Equal(t, text, all.String())
	})
}
