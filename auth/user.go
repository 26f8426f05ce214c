package auth

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Role is what a user may do beyond their own account.
type Role string

// The roles.
const (
	RoleUser Role = "user"
	// RoleStaff may enter the back office and help people there.
	RoleStaff Role = "staff"
	// RoleAdmin may also do what is hard to take back, such as giving roles.
	RoleAdmin Role = "admin"
)

func (r Role) valid() bool { return r == RoleUser || r == RoleStaff || r == RoleAdmin }

// User is a person with an account.
type User struct {
	// ID is a UUIDv7 in text form.
	ID string `json:"id"`
	// AccountID is the person's own account in the ledger and billing: their id, or another one since they shared it as an
	// organisation. What they act for is [AccountFrom].
	AccountID string `json:"account_id"`
	// Email is the address as the person wrote it.
	Email string `json:"email"`
	Name  string `json:"name"`
	Role  Role   `json:"role"`
	// VerifiedAt is when the address was shown to be theirs. Nil: not yet.
	VerifiedAt  *time.Time `json:"verified_at"`
	CreatedAt   time.Time  `json:"created_at"`
	LastLoginAt *time.Time `json:"last_login_at"`
	// DisabledAt is when staff closed the account. Nil: it is open.
	DisabledAt *time.Time `json:"disabled_at,omitempty"`
	// DeleteAt is when the account is erased, as its owner asked. Nil: never.
	DeleteAt *time.Time `json:"delete_at,omitempty"`
	// Language is what the person reads (BCP 47). Empty: they have not said.
	Language string `json:"language,omitempty"`
}

// Verified tells that the address was shown to be theirs.
func (u User) Verified() bool { return u.VerifiedAt != nil }

// IsStaff tells that the user may enter the back office.
func (u User) IsStaff() bool { return u.Role == RoleStaff || u.Role == RoleAdmin }

// LogValue is the id: the rest is personal.
func (u User) LogValue() slog.Value { return slog.StringValue(u.ID) }

type userRow struct {
	ID           string         `db:"id"`
	Email        string         `db:"email"`
	EmailKey     string         `db:"email_key"`
	Name         string         `db:"name"`
	Role         Role           `db:"role"`
	PasswordHash string         `db:"password_hash"`
	SignupTicket []byte         `db:"signup_ticket"`
	LockedUntil  *database.Time `db:"locked_until"`
	VerifiedAt   *database.Time `db:"verified_at"`
	DisabledAt   *database.Time `db:"disabled_at"`
	LastLoginAt  *database.Time `db:"last_login_at"`
	CreatedAt    database.Time  `db:"created_at"`
	AccountID    *string        `db:"account_id"`
	DeleteAt     *database.Time `db:"delete_at"`
	Language     string         `db:"language"`
}

const userColumns = `u.id, u.email, u.email_key, u.name, u.role, u.password_hash, u.signup_ticket, u.locked_until, u.verified_at, u.disabled_at,
	u.last_login_at, u.created_at, u.account_id, u.delete_at, u.language`

func (r userRow) user() User {
	account := r.ID
	if r.AccountID != nil {
		account = *r.AccountID
	}
	return User{ID: r.ID, AccountID: account, Email: r.Email, Name: r.Name, Role: r.Role, VerifiedAt: r.VerifiedAt.Std(), CreatedAt: r.CreatedAt.Time,
		LastLoginAt: r.LastLoginAt.Std(), DisabledAt: r.DisabledAt.Std(), DeleteAt: r.DeleteAt.Std(), Language: r.Language}
}

func (r userRow) locked(now time.Time) bool { return r.LockedUntil != nil && r.LockedUntil.After(now) }

const (
	selectUser        = `SELECT ` + userColumns + ` FROM qs_auth_users u WHERE u.id = ?`
	selectUserByEmail = `SELECT ` + userColumns + ` FROM qs_auth_users u WHERE u.email_key = ?`
)

// lockUser reads a user's row and keeps others from changing it until tx ends. Whatever changes an account begins here.
func (a *Auth) lockUser(ctx context.Context, tx *sqlx.Tx, id string) (row userRow, err error) {
	if !isID(id) {
		return row, ErrNotFound
	}
	return a.lock(ctx, tx, selectUser, id)
}

func (a *Auth) lockUserByEmail(ctx context.Context, tx *sqlx.Tx, address email) (userRow, error) {
	return a.lock(ctx, tx, selectUserByEmail, address.key)
}

func (a *Auth) lock(ctx context.Context, tx *sqlx.Tx, query, arg string) (row userRow, err error) {
	err = a.db.GetTx(ctx, tx, &row, query+a.db.Dialect().ForUpdate(), arg)
	if database.IsNoRows(err) {
		return row, ErrNotFound
	}
	if err != nil {
		return row, fmt.Errorf("auth: lock a user: %w", err)
	}
	a.sessions.forget(row.ID)
	return row, nil
}

// FindUser returns a user by id; [ErrNotFound] when there is none.
func (a *Auth) FindUser(ctx context.Context, id string) (User, error) {
	if !isID(id) {
		return User{}, ErrNotFound
	}
	return a.find(ctx, selectUser, id)
}

// FindUserTx is [Auth.FindUser] inside the caller's transaction.
func (a *Auth) FindUserTx(ctx context.Context, tx *sqlx.Tx, id string) (User, error) {
	if !isID(id) {
		return User{}, ErrNotFound
	}
	var row userRow
	err := a.db.GetTx(ctx, tx, &row, selectUser, id)
	if database.IsNoRows(err) {
		return User{}, ErrNotFound
	}
	if err != nil {
		return User{}, fmt.Errorf("auth: find user %s: %w", id, err)
	}
	return row.user(), nil
}

// FindUserByEmail returns a user by address, in any case; [ErrNotFound] when there is none, or the address is not one.
func (a *Auth) FindUserByEmail(ctx context.Context, address string) (User, error) {
	e, err := parseEmail(address)
	if err != nil {
		return User{}, ErrNotFound
	}
	return a.find(ctx, selectUserByEmail, e.key)
}

func (a *Auth) find(ctx context.Context, query, arg string) (User, error) {
	var row userRow
	err := a.db.Get(ctx, &row, query, arg)
	if database.IsNoRows(err) {
		return User{}, ErrNotFound
	}
	if err != nil {
		return User{}, fmt.Errorf("auth: find a user: %w", err)
	}
	return row.user(), nil
}

// UsersParams choose a page of users.
type UsersParams struct {
	// Query leaves out whose address and name do not begin with it, in any case. Empty: all.
	Query string
	// Before is the id of the last user of the page before. Empty: begin with the newest.
	Before string
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Users returns a page of users, newest first, and whether older ones follow.
func (a *Auth) Users(ctx context.Context, p UsersParams) (users []User, more bool, err error) {
	// Runs along the primary key, or qs_auth_users_email and _name.
	l := database.NewList(`SELECT ` + userColumns + ` FROM qs_auth_users u`)
	if q := strings.ToLower(strings.TrimSpace(p.Query)); q != "" {
		prefix := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(cleanText(q)) + "%"
		l.And(`(u.email_key LIKE ? ESCAPE '\' OR u.name_key LIKE ? ESCAPE '\')`, prefix, prefix)
	}
	l.If(isID(p.Before), `u.id < ?`, p.Before)
	if users, more, err = database.Page(ctx, a.db, l, `u.id DESC`, p.Limit, userRow.user); err != nil {
		return nil, false, fmt.Errorf("auth: list users: %w", err)
	}
	return users, more, nil
}

// CreateUserParams describe an account that a seed, a CLI or staff makes.
type CreateUserParams struct {
	Email    string
	Password string
	// PasswordHash is the hash of another system instead of the password: argon2id in PHC form, bcrypt, or Django's
	// pbkdf2_sha256. The first log-in replaces it by one of ours.
	PasswordHash string
	Name         string
	// Verified takes the address for the person's without a mail.
	Verified bool
	// Role is RoleUser when empty.
	Role Role
}

// CreateUser makes an account without a mail. Of the password only the length is checked, 8 characters at least: who
// calls it is trusted to choose. [ErrEmailTaken] when there is an account with the address; [ErrRole]; [ErrHash]; a problem of
// code "invalid" that names the fields.
func (a *Auth) CreateUser(ctx context.Context, p CreateUserParams) (u User, err error) {
	made, err := a.prepare(ctx, p)
	if err != nil {
		return User{}, err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		u, err = a.create(ctx, tx, made)
		return err
	})
	return u, err
}

// CreateUserTx is [Auth.CreateUser] inside tx. The password is hashed meanwhile, some 30 ms.
func (a *Auth) CreateUserTx(ctx context.Context, tx *sqlx.Tx, p CreateUserParams) (User, error) {
	made, err := a.prepare(ctx, p)
	if err != nil {
		return User{}, err
	}
	return a.create(ctx, tx, made)
}

// newUser is a user who is checked and not written yet.
type newUser struct {
	email    email
	name     string
	hash     string
	role     Role
	verified bool
	ticket   []byte
}

func (a *Auth) prepare(ctx context.Context, p CreateUserParams) (n newUser, err error) {
	setDefault(&p.Role, RoleUser)
	if !p.Role.valid() {
		return n, ErrRole
	}
	if n.email, err = parseEmail(p.Email); err != nil {
		return n, err
	}
	if n.name, err = parseName(p.Name); err != nil {
		return n, err
	}
	n.role, n.verified = p.Role, p.Verified
	if p.PasswordHash != "" && p.Password == "" {
		n.hash = p.PasswordHash
		return n, checkImported(n.hash)
	}
	if message := checkLength(p.Password, DefaultMinPassword); message != "" {
		return n, problem.Invalid(map[string]string{"password": message})
	}
	n.hash, err = a.hasher.hash(ctx, p.Password)
	return n, err
}

func (a *Auth) create(ctx context.Context, tx *sqlx.Tx, n newUser) (User, error) {
	made, err := a.insertUser(ctx, tx, n)
	if err != nil {
		return User{}, err
	}
	if !made {
		return User{}, ErrEmailTaken
	}
	row, err := a.lockUserByEmail(ctx, tx, n.email)
	if err != nil {
		return User{}, err
	}
	if err := a.record(ctx, tx, row.ID, EventSignUp, "", Client{}); err != nil {
		return User{}, err
	}
	if err := a.signedUp(ctx, tx, row); err != nil {
		return User{}, err
	}
	if n.verified {
		if err := a.verify(ctx, tx, &row, Client{}); err != nil {
			return User{}, err
		}
	}
	return row.user(), nil
}

// insertUser writes an unverified user; false when the address is taken.
func (a *Auth) insertUser(ctx context.Context, tx *sqlx.Tx, n newUser) (bool, error) {
	id, err := newID()
	if err != nil {
		return false, err
	}
	const insert = `INSERT INTO qs_auth_users (id, email, email_key, name, name_key, role, password_hash, signup_ticket, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (email_key) DO NOTHING`
	rows, err := a.db.ExecTx(ctx, tx, insert, id, n.email.shown, n.email.key, n.name, strings.ToLower(n.name), n.role, n.hash, n.ticket, database.At(a.now()))
	if err != nil {
		return false, fmt.Errorf("auth: write a user: %w", err)
	}
	return rows == 1, nil
}

// verify takes the address of a locked user for theirs, and ends the links that would do the same.
func (a *Auth) verify(ctx context.Context, tx *sqlx.Tx, u *userRow, c Client) error {
	now := database.At(a.now())
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET verified_at = ?, signup_ticket = NULL WHERE id = ?`, now, u.ID); err != nil {
		return fmt.Errorf("auth: verify user %s: %w", u.ID, err)
	}
	u.VerifiedAt, u.SignupTicket = &now, nil
	if err := a.cancelTokens(ctx, tx, u.ID, purposeVerify); err != nil {
		return err
	}
	if err := a.record(ctx, tx, u.ID, EventVerified, "", c); err != nil {
		return err
	}
	if a.admin != "" && u.EmailKey == a.admin {
		if err := a.setRole(ctx, tx, u, RoleAdmin, c); err != nil {
			return err
		}
	}
	if a.cfg.Hooks.OnVerify != nil {
		return a.cfg.Hooks.OnVerify(ctx, tx, u.user())
	}
	return nil
}

// SetRole gives a user another role and ends their sessions: it holds from the next log-in. [ErrNotFound], [ErrRole].
func (a *Auth) SetRole(ctx context.Context, userID string, role Role) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.SetRoleTx(ctx, tx, userID, role) })
}

// SetRoleTx is [Auth.SetRole] inside tx.
func (a *Auth) SetRoleTx(ctx context.Context, tx *sqlx.Tx, userID string, role Role) error {
	if !role.valid() {
		return ErrRole
	}
	u, err := a.lockUser(ctx, tx, userID)
	if err != nil {
		return err
	}
	return a.setRole(ctx, tx, &u, role, Client{})
}

func (a *Auth) setRole(ctx context.Context, tx *sqlx.Tx, u *userRow, role Role, c Client) error {
	if u.Role == role {
		return nil
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET role = ? WHERE id = ?`, role, u.ID); err != nil {
		return fmt.Errorf("auth: set the role of user %s: %w", u.ID, err)
	}
	u.Role = role
	if err := a.endSessions(ctx, tx, u.ID, ""); err != nil {
		return err
	}
	return a.record(ctx, tx, u.ID, EventRoleChanged, string(role), c)
}

// SetDisabled closes an account, which ends its sessions and lets none of its API keys through, or opens it again.
// Nothing is deleted. [ErrNotFound].
func (a *Auth) SetDisabled(ctx context.Context, userID string, disabled bool) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.SetDisabledTx(ctx, tx, userID, disabled) })
}

// SetDisabledTx is [Auth.SetDisabled] inside tx.
func (a *Auth) SetDisabledTx(ctx context.Context, tx *sqlx.Tx, userID string, disabled bool) error {
	u, err := a.lockUser(ctx, tx, userID)
	if err != nil {
		return err
	}
	if disabled == (u.DisabledAt != nil) {
		return nil
	}
	at, kind := (*database.Time)(nil), EventEnabled
	if disabled {
		now := database.At(a.now())
		at, kind = &now, EventDisabled
	}
	if _, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET disabled_at = ? WHERE id = ?`, at, u.ID); err != nil {
		return fmt.Errorf("auth: disable user %s: %w", u.ID, err)
	}
	if disabled {
		if err := a.endSessions(ctx, tx, u.ID, ""); err != nil {
			return err
		}
	}
	return a.record(ctx, tx, u.ID, kind, "", Client{})
}

// SetName changes what a user is called, at most 100 characters and possibly nothing. [ErrNotFound]; a problem of code
// "invalid" for the field "name".
func (a *Auth) SetName(ctx context.Context, userID, name string) error {
	return a.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return a.SetNameTx(ctx, tx, userID, name) })
}

// SetNameTx is [Auth.SetName] inside tx.
func (a *Auth) SetNameTx(ctx context.Context, tx *sqlx.Tx, userID, name string) error {
	name, err := parseName(name)
	if err != nil {
		return err
	}
	if !isID(userID) {
		return ErrNotFound
	}
	a.sessions.forget(userID)
	n, err := a.db.ExecTx(ctx, tx, `UPDATE qs_auth_users SET name = ?, name_key = ? WHERE id = ?`, name, strings.ToLower(name), userID)
	if err != nil {
		return fmt.Errorf("auth: set the name of user %s: %w", userID, err)
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}

const maxName = 100

// parseName trims and checks a person's name, which may be empty.
func parseName(s string) (string, error) {
	s = strings.TrimSpace(s)
	if message := checkLine(s); message != "" {
		return "", problem.Invalid(map[string]string{"name": message})
	}
	return s, nil
}

// checkLine returns the sentence about a text that is no line of at most 100 characters, or "".
func checkLine(s string) string {
	switch {
	case utf8.RuneCountInString(s) > maxName:
		return fmt.Sprintf("Use at most %d characters.", maxName)
	// Signs that turn the direction of text would make a name read as another one.
	case !utf8.ValidString(s), strings.ContainsFunc(s, func(c rune) bool {
		return unicode.IsControl(c) || unicode.In(c, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	}):
		return "Use letters, digits, spaces and signs only."
	}
	return ""
}
