package task

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is a key of a JSON object, and the field of a struct that it becomes.
type field struct {
	name string
	// kind is the type of the value.
	kind reflect.Type
	// required says that the key must be there. A pointer, omitempty and omitzero say otherwise.
	required bool
	// quoted says that a number or a boolean stands in a text.
	quoted bool
	// owner and goName are the struct and the field in it, for its comment.
	owner  reflect.Type
	goName string
}

var (
	timeType            = reflect.TypeFor[time.Time]()
	numberType          = reflect.TypeFor[json.Number]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// fieldsOf returns the keys of a struct as encoding/json has them. A field of the struct itself hides one of an embedded struct.
func fieldsOf(kind reflect.Type) []field {
	var fields []field
	at := map[string]int{}
	depths := map[string]int{}
	// A struct may embed itself.
	open := map[reflect.Type]bool{}
	var add func(kind reflect.Type, depth int, optional bool)
	add = func(kind reflect.Type, depth int, optional bool) {
		if open[kind] {
			return
		}
		open[kind] = true
		defer delete(open, kind)
		for i := range kind.NumField() {
			each := kind.Field(i)
			tag, tagged := each.Tag.Lookup("json")
			name, options, _ := strings.Cut(tag, ",")
			if name == "-" && options == "" {
				continue
			}
			pointer := each.Type.Kind() == reflect.Pointer
			if each.Anonymous && (!tagged || name == "") {
				inner := each.Type
				if pointer {
					inner = inner.Elem()
				}
				if inner.Kind() == reflect.Struct {
					add(inner, depth+1, optional || pointer)
					continue
				}
			}
			if !each.IsExported() {
				continue
			}
			if name == "" {
				name = each.Name
			}
			has := func(option string) bool {
				for part := range strings.SplitSeq(options, ",") {
					if part == option {
						return true
					}
				}
				return false
			}
			inner := each.Type
			if pointer {
				inner = inner.Elem()
			}
			found := field{
				name:     name,
				kind:     each.Type,
				required: !optional && !pointer && !has("omitempty") && !has("omitzero"),
				// As encoding/json has it, for these only.
				quoted: has("string") && (isNumber(inner) || inner.Kind() == reflect.Bool || inner.Kind() == reflect.String),
				owner:    kind,
				goName:   each.Name,
			}
			index, there := at[name]
			switch {
			case !there:
				at[name] = len(fields)
				depths[name] = depth
				fields = append(fields, found)
			case depth < depths[name]:
				depths[name] = depth
				fields[index] = found
			}
		}
	}
	add(kind, 0, false)
	return fields
}

func isNumber(kind reflect.Type) bool {
	return reflect.Int <= kind.Kind() && kind.Kind() <= reflect.Float64
}

// readsItself says whether a type reads its JSON by a method of its own, and whether that takes texts.
func readsItself(kind reflect.Type) (itself, text bool) {
	pointer := reflect.PointerTo(kind)
	if pointer.Implements(jsonUnmarshalerType) {
		return true, false
	}
	text = pointer.Implements(textUnmarshalerType)
	return text, text
}

// check looks for what encoding/json takes and the schema of the params does not: keys that are missing, nulls, and arrays of
// another length. It returns the place and the problem, or "".
func check(value any, kind reflect.Type, path string) string {
	if kind == timeType || kind == numberType {
		if value == nil {
			return path + ": expected " + kind.String() + ", found null"
		}
		return ""
	}
	if itself, text := readsItself(kind); itself {
		if text && value == nil {
			return path + ": expected " + kind.String() + ", found null"
		}
		return ""
	}
	switch kind.Kind() {
	case reflect.Pointer:
		if value == nil {
			return ""
		}
		return check(value, kind.Elem(), path)
	case reflect.Interface:
		return ""
	case reflect.Slice, reflect.Map:
		if value == nil {
			return ""
		}
	}
	if value == nil {
		return path + ": expected " + kind.String() + ", found null"
	}
	switch value := value.(type) {
	case []any:
		if kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Uint8 {
			return path + ": expected a text in base64, found an array"
		}
		if kind.Kind() == reflect.Array && len(value) != kind.Len() {
			return path + ": expected " + kind.String() + ", found an array of another length"
		}
		if kind.Kind() != reflect.Slice && kind.Kind() != reflect.Array {
			return ""
		}
		for i, each := range value {
			if problem := check(each, kind.Elem(), path+"["+strconv.Itoa(i)+"]"); problem != "" {
				return problem
			}
		}
	case map[string]any:
		switch kind.Kind() {
		case reflect.Map:
			for key, each := range value {
				if problem := check(each, kind.Elem(), path+"."+key); problem != "" {
					return problem
				}
			}
		case reflect.Struct:
			for _, each := range fieldsOf(kind) {
				found, there := value[each.name]
				switch {
				case there:
					if problem := check(found, each.kind, path+"."+each.name); problem != "" {
						return problem
					}
				case each.required:
					return path + "." + each.name + ": missing"
				}
			}
		}
	}
	return ""
}
