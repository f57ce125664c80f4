// Results of the types that authors use. A row is chosen by its name.
package main

import (
	"encoding/json"
	"math"
	"math/big"
	"net/url"
	"strings"
	"time"

	"wasq/task"
)

type Params struct {
	Row string `json:"row"`
}

type Base struct {
	ID int `json:"id"`
}

type Address struct {
	Base
	Street string  `json:"street,omitempty"`
	Zip    *string `json:"zip"`
	hidden int
	Secret string `json:"-"`
	Count  int64  `json:"count,string"`
}

type Colour int

func (c Colour) MarshalText() ([]byte, error) { return []byte([]string{"red", "blue"}[c]), nil }

type Money struct{ cents int }

func (m Money) MarshalJSON() ([]byte, error) { return json.Marshal(float64(m.cents) / 100) }

func deep(levels int) any {
	var value any = 1
	for range levels {
		value = []any{value}
	}
	return value
}

var rows = map[string]func() any{
	"null":             func() any { return nil },
	"true":             func() any { return true },
	"false":            func() any { return false },
	"largest":          func() any { return int64(math.MaxInt64) },
	"smallest":         func() any { return int64(math.MinInt64) },
	"double":           func() any { return 1.5 },
	"huge":             func() any { return 1e308 },
	"tiny":             func() any { return 5e-324 },
	"text":             func() any { return "é😀 \"\\/\n\x00\x7f\u2028" },
	"empty text":       func() any { return "" },
	"list":             func() any { return []any{1, "a", nil, []bool{true}} },
	"empty list":       func() any { return []int{} },
	"object":           func() any { return map[string]any{"a": map[string][]int{"b": {1}}, "": 1, "é b": 2} },
	"empty object":     func() any { return struct{}{} },
	"deep":             func() any { return deep(400) },
	"long":             func() any { return strings.Repeat("x", 100_000) },
	"nil slice":        func() any { return []int(nil) },
	"nil map":          func() any { return map[string]int(nil) },
	"bytes":            func() any { return []byte{0, 255} },
	"array":            func() any { return [2]byte{0, 255} },
	"struct":           func() any { return Address{Base: Base{ID: 1}, hidden: 2, Secret: "s", Count: 3} },
	"pointer":          func() any { return &Address{} },
	"map with numbers": func() any { return map[int]string{7: "seven"} },
	"text of a type":   func() any { return map[Colour]Colour{0: 1} },
	"json of a type":   func() any { return []Money{{150}} },
	"time":             func() any { return time.Unix(0, 5).UTC() },
	"duration":         func() any { return 2 * time.Second },
	"raw":              func() any { return json.RawMessage(`{"a": [1,  2]}`) },
	"number":           func() any { return json.Number("12345678901234567890.5") },
	"big":              func() any { return new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil) },
	"url":              func() any { return url.URL{Scheme: "https", Host: "example.com"} },
	"html":             func() any { return "<a&b>" },
	"not UTF-8":        func() any { return "a\xffb" },
	"generic":          func() any { return map[string]any{"any": [][]string{{"a"}, nil}} },
	"channel":          func() any { return make(chan int) },
	"not finite":       func() any { return math.NaN() },
	"complex":          func() any { return complex(1, 2) },
	"function":         func() any { return deep },
}

func init() { task.Handle(run) }
func main() {}

func run(params Params) (any, error) {
	row, found := rows[params.Row]
	if !found {
		return nil, task.Reject("no row %s", params.Row)
	}
	return row(), nil
}
