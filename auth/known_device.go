package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// deviceLifetime is how long a browser is known again after its last log-in.
const deviceLifetime = 365 * 24 * time.Hour

// knowDevice notes the browser of a log-in of a locked user and mails the user when it is a new one and not the first.
// token is for a browser that has none yet to keep. Programs, which have no agent, are no browsers.
func (a *Auth) knowDevice(ctx context.Context, tx *sqlx.Tx, u userRow, c Client) (token string, err error) {
	if c.Agent == "" {
		return "", nil
	}
	device := c.Device
	if !isSecret(device) {
		token, _ = newSecret()
		device = token
	}
	var known int
	if err := a.db.GetTx(ctx, tx, &known, `SELECT COUNT(*) FROM qs_auth_devices WHERE user_id = ?`, u.ID); err != nil {
		return "", fmt.Errorf("auth: count the browsers of user %s: %w", u.ID, err)
	}
	now := database.At(a.now())
	n, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_devices SET last_used_at = ? WHERE user_id = ? AND device_hash = ?`, now, u.ID, hashSecret(device))
	if err != nil {
		return "", fmt.Errorf("auth: note a browser of user %s: %w", u.ID, err)
	}
	if n == 1 {
		return "", nil
	}
	const insert = `INSERT INTO qs_auth_devices (device_hash, user_id, last_used_at) VALUES (?, ?, ?)`
	if _, err := a.db.ExecTx(ctx, tx, insert, hashSecret(device), u.ID, now); err != nil {
		return "", fmt.Errorf("auth: note a browser of user %s: %w", u.ID, err)
	}
	if known == 0 {
		return token, nil
	}
	if err := a.record(ctx, tx, u.ID, EventNewDevice, "", c); err != nil {
		return "", err
	}
	return token, a.notify(ctx, tx, u, kindDevice, Notice{Name: u.Name, Event: EventNewDevice, Device: deviceOf(c.Agent), IP: c.IP})
}
