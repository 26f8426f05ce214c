package auth

// The kinds of events about organisations, profiles and staff.
const (
	EventOrgCreated           EventKind = "organisation_created"
	EventOrgRenamed           EventKind = "organisation_renamed"
	EventOrgInvited           EventKind = "organisation_invited"
	EventOrgInviteRevoked     EventKind = "organisation_invitation_revoked"
	EventOrgJoined            EventKind = "organisation_joined"
	EventOrgLeft              EventKind = "organisation_left"
	EventOrgRole              EventKind = "organisation_role"
	EventOrgDeletionAsked     EventKind = "organisation_deletion_asked"
	EventOrgDeletionCancelled EventKind = "organisation_deletion_cancelled"
	EventOrgErased            EventKind = "organisation_erased"
	EventImpersonateStart     EventKind = "impersonation_started"
	EventImpersonateStop      EventKind = "impersonation_stopped"
	EventExported             EventKind = "data_exported"
	EventDeletionAsked        EventKind = "deletion_asked"
	EventDeletionCancelled    EventKind = "deletion_cancelled"
	EventErased               EventKind = "erased"
)

// peopleLabels are these kinds as people read them.
func peopleLabels() map[EventKind]string {
	return map[EventKind]string{
		EventOrgCreated: "Organisation created", EventOrgRenamed: "Organisation renamed", EventOrgInvited: "Somebody invited to an organisation",
		EventOrgInviteRevoked: "Invitation taken back", EventOrgJoined: "Joined an organisation", EventOrgLeft: "Left an organisation",
		EventOrgRole: "Role in an organisation changed", EventOrgDeletionAsked: "Deletion of an organisation asked for",
		EventOrgDeletionCancelled: "Deletion of an organisation cancelled", EventOrgErased: "Organisation erased", EventImpersonateStart: "Staff began to act as this person",
		EventImpersonateStop: "Staff ceased to act as this person", EventExported: "Data exported", EventDeletionAsked: "Deletion asked for",
		EventDeletionCancelled: "Deletion cancelled", EventErased: "Account erased",
	}
}
