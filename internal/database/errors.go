package database

import "errors"

// SQLSTATE codes that the library acts on (PostgreSQL documentation, appendix A).
const (
	stateSerializationFailure = "40001"
	stateDeadlockDetected     = "40P01"
	stateUniqueViolation      = "23505"
	stateForeignKeyViolation  = "23503"
	stateCheckViolation       = "23514"
)

// SQLite result codes (sqlite.org/rescode.html). The primary code is the low byte of an extended one.
const (
	sqliteBusy                 = 5
	sqliteLocked               = 6
	sqliteConstraintCheck      = 275
	sqliteConstraintForeignKey = 787
	sqliteConstraintPrimaryKey = 1555
	sqliteConstraintUnique     = 2067
	sqlitePrimaryMask          = 0xff
)

// sqlState is what lib/pq and pgx errors have in common.
type sqlState interface{ SQLState() string }

// resultCode is what modernc.org/sqlite errors offer.
type resultCode interface{ Code() int }

// IsRetryable tells that a transaction failed because of another one and can be run again as it is.
func IsRetryable(err error) bool {
	switch state(err) {
	case stateSerializationFailure, stateDeadlockDetected:
		return true
	}
	switch code(err) & sqlitePrimaryMask {
	case sqliteBusy, sqliteLocked:
		return true
	}
	return false
}

// IsUniqueViolation tells that a row with the same key exists. On PostgreSQL the transaction is then aborted; use
// INSERT … ON CONFLICT where it must go on.
func IsUniqueViolation(err error) bool {
	c := code(err)
	return state(err) == stateUniqueViolation || c == sqliteConstraintUnique || c == sqliteConstraintPrimaryKey
}

// IsForeignKeyViolation tells that a row refers to one that does not exist.
func IsForeignKeyViolation(err error) bool {
	return state(err) == stateForeignKeyViolation || code(err) == sqliteConstraintForeignKey
}

// IsCheckViolation tells that a row breaks a CHECK constraint.
func IsCheckViolation(err error) bool {
	return state(err) == stateCheckViolation || code(err) == sqliteConstraintCheck
}

// SQLState is the code with which PostgreSQL answered, empty when err is no answer of a PostgreSQL server.
func SQLState(err error) string { return state(err) }

func state(err error) string {
	var s sqlState
	if errors.As(err, &s) {
		return s.SQLState()
	}
	return ""
}

func code(err error) int {
	var c resultCode
	if errors.As(err, &c) {
		return c.Code()
	}
	return 0
}
