package auth

// The kinds of events about how an account is entered beside the password.
const (
	EventTOTPEnabled    EventKind = "totp_enabled"
	EventTOTPDisabled   EventKind = "totp_disabled"
	EventBackupCodes    EventKind = "backup_codes_made"
	EventBackupUsed     EventKind = "backup_code_used"
	EventCodeFailed     EventKind = "second_step_failed"
	EventPasskeyAdded   EventKind = "passkey_added"
	EventPasskeyRemoved EventKind = "passkey_removed"
	EventPasskeyCloned  EventKind = "passkey_copied"
	EventFactorsReset   EventKind = "second_step_reset"
	EventLinked         EventKind = "account_linked"
	EventUnlinked       EventKind = "account_unlinked"
	EventPasswordSet    EventKind = "password_set"
)

// factorLabels are these kinds as people read them.
func factorLabels() map[EventKind]string {
	return map[EventKind]string{ //nolint:gosec // G101: labels of events
		EventTOTPEnabled: "Authenticator app set up", EventTOTPDisabled: "Authenticator app removed", EventBackupCodes: "New backup codes made",
		EventBackupUsed: "Backup code used", EventCodeFailed: "Wrong second step", EventPasskeyAdded: "Passkey added", EventPasskeyRemoved: "Passkey removed",
		EventPasskeyCloned: "Copy of a passkey noticed", EventFactorsReset: "Second step taken off by staff", EventLinked: "Account elsewhere linked",
		EventUnlinked: "Account elsewhere unlinked", EventPasswordSet: "Password set",
	}
}
