package services

import (
	"encoding/hex"
	"strconv"

	"github.com/google/uuid"
)

// array is an array literal of PostgreSQL on its way (PostgreSQL documentation, "Array Input and Output Syntax"), which
// means the same to every driver.
type array []byte

// next begins an element.
func (a *array) next() {
	*a = append(*a, ',') // the first becomes the brace
}

func (a *array) int(v int64) {
	a.next()
	*a = strconv.AppendInt(*a, v, 10)
}

// uuid adds v, or NULL for uuid.Nil.
func (a *array) uuid(v uuid.UUID) {
	a.next()
	if v == uuid.Nil {
		*a = append(*a, "NULL"...)
		return
	}
	*a = hex.AppendEncode(*a, v[:])
}

func (a *array) text(v string) {
	a.next()
	*a = append(*a, '"')
	for i := range len(v) {
		if v[i] == '"' || v[i] == '\\' {
			*a = append(*a, '\\')
		}
		*a = append(*a, v[i])
	}
	*a = append(*a, '"')
}

// literal ends an array of one element or more.
func (a array) literal() string {
	a[0] = '{'
	return string(append(a, '}'))
}
