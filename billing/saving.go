package billing

import "math/big"

// withSavings tells of each plan how much less a credit costs than by its product's plan of the shortest period in the same
// currency.
func withSavings(plans []Offer) {
	for i, p := range plans {
		shortest := p
		for _, other := range plans {
			if other.ProductID == p.ProductID && other.Price.Currency == p.Price.Currency && other.days() < shortest.days() {
				shortest = other
			}
		}
		plans[i].SavesPercent = savesPercent(shortest, p)
	}
}

// savesPercent is by how many percent, rounded down, a credit of one plan is cheaper than of another; 0 where it is not.
func savesPercent(than, plan Offer) int64 {
	if than.Price.Amount <= 0 || plan.Credits <= 0 {
		return 0
	}
	// 1 - (plan's price ÷ plan's credits) ÷ (the other's price ÷ the other's credits)
	whole := new(big.Int).Mul(big.NewInt(than.Price.Amount), big.NewInt(int64(plan.Credits)))
	part := new(big.Int).Mul(big.NewInt(plan.Price.Amount), big.NewInt(int64(than.Credits)))
	saved := new(big.Int).Sub(whole, part)
	if saved.Sign() <= 0 {
		return 0
	}
	return share(saved, big.NewInt(100), whole).Int64()
}
