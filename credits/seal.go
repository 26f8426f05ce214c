package credits

import "context"

func (l *Ledger) Seal(ctx context.Context) (int, error) { return 0, nil }
