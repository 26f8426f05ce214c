package billing

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/go-pdf/fpdf"
	"github.com/google/uuid"
)

// receiptPDF draws a receipt on one page. Letters beyond Western European ones (Windows-1252), which the fonts that every
// reader has do not hold, appear as dots; the page and the JSON have them all.
func receiptPDF(site string, p Payment, who Customer) ([]byte, error) {
	doc := fpdf.New("P", "mm", "A4", "")
	doc.SetCompression(false) // a page of text is small, and can be searched like this
	doc.SetCatalogSort(true)  // the same receipt is the same file
	doc.SetCreationDate(p.CreatedAt)
	doc.SetModificationDate(p.CreatedAt)
	western := doc.UnicodeTranslatorFromDescriptor("")
	doc.SetTitle("Receipt "+p.Receipt, true)
	doc.SetAuthor(site, true)
	doc.SetMargins(25, 25, 25)
	doc.AddPage()
	line := func(style string, size, height float64, text string) {
		doc.SetFont("Helvetica", style, size)
		doc.MultiCell(0, height, western(text), "", "L", false)
	}
	line("B", 20, 10, "Receipt "+p.Receipt)
	line("", 11, 6, site)
	doc.Ln(4)
	line("", 11, 6, "For "+who.Name)
	line("", 11, 6, who.Email)
	doc.Ln(8)
	rows := [][2]string{
		{"Date", p.CreatedAt.UTC().Format("2 Jan 2006, 15:04 UTC")},
		{p.Type.Label(), p.Description},
		{"Credits", p.Credits.String()},
		{"Amount", p.Price.String()},
	}
	if p.Refunded > 0 {
		rows = append(rows, [2]string{"Refunded", p.RefundedMoney().String()})
	}
	if p.Clawed > 0 {
		rows = append(rows, [2]string{"Taken back", p.Clawed.String() + " credits"})
	}
	rows = append(rows, [2]string{"Status", p.Status.Label()})
	for _, ref := range [][2]string{{"Payment", p.IntentID}, {"Invoice", p.InvoiceID}} {
		if ref[1] != "" {
			rows = append(rows, ref)
		}
	}
	const labels = 40 // mm
	for _, r := range rows {
		doc.SetFont("Helvetica", "B", 11)
		doc.CellFormat(labels, 8, western(r[0]), "", 0, "L", false, 0, "")
		doc.SetFont("Helvetica", "", 11)
		doc.MultiCell(0, 8, western(r[1]), "", "L", false)
	}
	var out bytes.Buffer
	if err := doc.Output(&out); err != nil {
		return nil, fmt.Errorf("billing: draw receipt %s: %w", p.Receipt, err)
	}
	return out.Bytes(), nil
}

// receiptOf finds the payment that a receipt is asked for: there is one for money that came, and for none that did not.
func (b *Billing) receiptOf(r *http.Request, who Customer) (Payment, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return Payment{}, ErrNotFound
	}
	p, err := b.FindPayment(r.Context(), who.Account, id)
	if err == nil && !p.Kept() {
		return Payment{}, ErrNotFound
	}
	return p, err
}

func (b *Billing) showReceiptPDF(w http.ResponseWriter, r *http.Request, who Customer) {
	p, err := b.receiptOf(r, who)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	body, err := receiptPDF(b.cfg.Site.Name(), p, who)
	if err != nil {
		b.cfg.Site.Fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Content-Disposition", `attachment; filename="`+p.Receipt+`.pdf"`)
	_, _ = w.Write(body) // the client is gone; there is nobody to tell
}
