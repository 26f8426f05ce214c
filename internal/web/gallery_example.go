package web

import "time"

// What people enter, at its worst: one word of many letters.
const longWord = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"

// componentExamples are each component's states, by its name.
func componentExamples() map[string][]Example {
	moment := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	return map[string][]Example{
		"alert": {
			{Title: "Done", Source: `{{template "alert" (dict "Kind" "success" "Text" "Your profile is saved.")}}`},
			{Title: "To know", Source: `{{template "alert" (dict "Kind" "info" "Text" "Your plan changes at the end of the month.")}}`},
			{Title: "To mind", Source: `{{template "alert" (dict "Kind" "warning" "Text" "This account is frozen.")}}`},
			{Title: "Wrong", Source: `{{template "alert" (dict "Kind" "danger" "Text" "The card was declined. Try another one.")}}`},
			{Title: "A long word", Source: `{{template "alert" (dict "Kind" "info" "Text" .)}}`, data: longWord},
		},
		"badge": {
			{Title: "Plain", Source: `{{template "badge" (dict "Text" "Draft")}}`},
			{Title: "In colours", Source: `{{template "badge" (dict "Text" "Paid" "Kind" "success")}} {{template "badge" (dict "Text" "New" "Kind" "info")}} {{template "badge" (dict "Text" "Expiring" "Kind" "warning")}} {{template "badge" (dict "Text" "Failed" "Kind" "danger")}}`},
		},
		"button": {
			{Title: "Plain", Source: `{{template "button" (dict "Text" "Cancel")}}`},
			{Title: "The main one", Source: `{{template "button" (dict "Text" "Save" "Kind" "primary")}}`},
			{Title: "Dangerous", Source: `{{template "button" (dict "Text" "Delete" "Kind" "danger")}}`},
			{Title: "A link", Source: `{{template "button" (dict "Text" "Read on" "URL" "#button")}}`},
			{Title: "Small", Source: `{{template "button" (dict "Text" "Show" "Small" true "Label" "Show the key laptop")}}`},
			{Title: "Not now", Source: `{{template "button" (dict "Text" "Save" "Kind" "primary" "Disabled" true)}}`},
			{Title: "As wide as its place", Source: `{{template "button" (dict "Text" "Log in" "Kind" "primary" "Full" true)}}`},
		},
		"card": {
			{Title: "In a row", Source: `<div class="qs-cards">{{template "card" (dict "Title" "Fast" "Text" "An answer within a second.")}}
{{template "card" (dict "Title" "Exact" "Text" "Counted in millionths.")}}</div>`},
			{Title: "For sale", Source: `<div class="qs-cards">{{template "card" (dict "Title" "Starter" "Text" "For a first try." "Price" "10.00 USD" "Note" "100 credits" "URL" "#card" "Action" "Buy" "Label" "Buy Starter" "Primary" true "Badge" (dict "Text" "Popular" "Kind" "success"))}}</div>`},
			{Title: "A long word", Source: `<div class="qs-cards">{{template "card" (dict "Title" "Words" "Text" .)}}</div>`, data: longWord},
		},
		"chart": {
			{Title: "A week", Source: `{{template "chart" .}}`, data: NewChart("Credits used by day", "Day", "Credits", []Point{
				{"1 Mar", 12_500_000, "12.5"}, {"2 Mar", 3_000_000, "3"}, {"3 Mar", 0, "0"}, {"4 Mar", 42_000_000, "42"}, {"5 Mar", 100_000, "0.1"}, {"6 Mar", 0, "0"}, {"7 Mar", 21_000_000, "21"},
			})},
			{Title: "Nothing yet", Source: `{{template "chart" .}}`, data: NewChart("Credits used by day", "Day", "Credits", []Point{{"1 Mar", 0, "0"}, {"2 Mar", 0, "0"}})},
		},
		"code": {
			{Title: "A command", Source: `{{template "code" (dict "Label" "In a shell" "Text" "curl -H 'Authorization: Bearer …' https://app.example.com/api/v1/credits")}}`},
			{Title: "A long word", Source: `{{template "code" (dict "Text" .)}}`, data: longWord},
		},
		"empty": {
			{Title: "With what to do first", Source: `{{template "empty" (dict "Title" "No keys yet" "Text" "Keys let your programs in." "URL" "#empty" "Action" "Create a key")}}`},
			{Title: "Without", Source: `{{template "empty" (dict "Title" "Nothing here yet" "Text" "Payments appear here.")}}`},
		},
		"field": {
			{Title: "Plain", Source: `{{template "field" (dict "Name" "plain" "Label" "Name" "Value" "Grace Hopper" "Required" true)}}`},
			{Title: "With a hint, and not required", Source: `{{template "field" (dict "Name" "hint" "Label" "Company" "Hint" "As on the invoice.")}}`},
			{Title: "At fault", Source: `{{template "field" (dict "Name" "fault" "Label" "E-mail" "Type" "email" "Value" "grace@" "Error" "Enter an address such as grace@example.com." "Required" true)}}`},
			{Title: "At fault, with a hint", Source: `{{template "field" (dict "Name" "both" "Label" "Password" "Type" "password" "Hint" "8 characters or more." "Error" "Choose a longer one." "Required" true "Autocomplete" "new-password")}}`},
			{Title: "A long word", Source: `{{template "field" (dict "Name" "long" "Label" . "Value" . "Hint" . "Error" .)}}`, data: longWord},
		},
		"modal": {
			{Title: "Before a deletion", Source: `{{template "modal" (dict "ID" "delete-key" "Open" "Delete…" "URL" "#modal" "Title" "Delete the key?" "Text" "Programs that use it are let in no longer." "Action" "#" "Confirm" "Delete")}}`},
		},
		"more": {
			{Title: "There are older ones", Source: `{{template "more" "?before=1#more"}}`},
		},
		"nav": {
			{Title: "Where one is", Source: `{{template "nav" .}}`, data: map[string]any{"Label": "Example", "Path": "#nav", "Links": []Link{{"Overview", "#nav"}, {"Profile", "#profile"}, {"Security", "#security"}}}},
			{Title: "More than fit", Source: `{{template "nav" .}}`, data: map[string]any{"Label": "Long example", "Path": "", "Links": []Link{{"Overview", "#a"}, {"Organisation", "#b"}, {"Payment methods", "#c"}, {"Invoices and receipts", "#d"}, {"Connected programs", "#e"}}}},
		},
		"stat": {
			{Title: "In a row", Source: `<div class="qs-cards">{{template "stat" (dict "Label" "Available" "Value" "1,204.5" "Note" "Credits that you can use now.")}}
{{template "stat" (dict "Label" "Held" "Value" "0")}}</div>`},
			{Title: "A long number", Source: `<div class="qs-cards">{{template "stat" (dict "Label" "Available" "Value" "123,456,789,012.345678")}}</div>`},
		},
		"table": {
			{Title: "With numbers", Source: `{{template "table" .}}`, data: Table{Caption: "Credits", Columns: []Column{{Label: "For"}, {Label: "Credits", Number: true}, {Label: "Date"}},
				Rows: [][]any{{"Purchase: Starter", "+100", "1 Mar 2026"}, {"Text analysis", "−0.5", "2 Mar 2026"}, {longWord, "−12,345.678901", "3 Mar 2026"}}}},
		},
		"textarea": {
			{Title: "Plain", Source: `{{template "textarea" (dict "Name" "message" "Label" "Message" "Required" true)}}`},
			{Title: "At fault, with a hint", Source: `{{template "textarea" (dict "Name" "reason" "Label" "Reason" "Rows" 3 "Value" "x" "Hint" "Your owner reads it." "Error" "Write a little more.")}}`},
		},
		"time": {
			{Title: "A moment", Source: `{{template "time" .}}`, data: moment},
		},
	}
}
