//go:build !wasip1

package task

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"strings"
)

// schemaFile names the file into which a task, built for this machine, writes the schema of its types. `wasq build` reads it.
const schemaFile = "WASQ_SCHEMA_FILE"

// describe writes the schema if `wasq build` asks for it, and ends the process.
func describe(params, output reflect.Type) {
	path := os.Getenv(schemaFile)
	if path == "" {
		return
	}
	comments := commentsOf(".")
	whole := map[string]any{}
	for key, kind := range map[string]reflect.Type{"params": params, "result": output} {
		schema, err := schemaOf(kind, comments)
		switch {
		case err != nil && key == "params":
			fail(err)
		case err == nil && len(schema) > 0:
			whole[key] = schema
		}
	}
	text, err := json.Marshal(whole)
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		fail(err)
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// schemas makes the schema of a type, with the definitions that its parts refer to.
type schemas struct {
	definitions map[string]any
	names       map[reflect.Type]string
	comments    map[string]string
}

func schemaOf(kind reflect.Type, comments map[string]string) (map[string]any, error) {
	made := schemas{map[string]any{}, map[reflect.Type]string{}, comments}
	whole, err := made.of(kind)
	if err != nil {
		return nil, err
	}
	if name, alone := made.names[kind]; alone {
		// A struct that stands at the top alone needs no definition of its own.
		text, err := json.Marshal(made.definitions)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(text), `"#/$defs/`+name+`"`) {
			whole, _ = made.definitions[name].(map[string]any)
			delete(made.definitions, name)
		}
	}
	if len(made.definitions) > 0 {
		whole["$defs"] = made.definitions
	}
	return whole, nil
}

// formats are the numbers by their sizes. An int has 64 bits in WebAssembly as well.
var formats = map[reflect.Kind]string{
	reflect.Int: "int64", reflect.Int8: "int8", reflect.Int16: "int16", reflect.Int32: "int32", reflect.Int64: "int64",
	reflect.Uint: "uint64", reflect.Uint8: "uint8", reflect.Uint16: "uint16", reflect.Uint32: "uint32", reflect.Uint64: "uint64",
	reflect.Uintptr: "uint64",
}

const (
	wholeNumber = `^-?[0-9]+$`
	base64Text  = `^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`
	float32Max  = 3.4028234663852886e38
)

func (s *schemas) of(kind reflect.Type) (map[string]any, error) {
	switch {
	case kind == timeType:
		return map[string]any{"type": "string", "format": "date-time"}, nil
	case kind == numberType:
		return map[string]any{"type": "number"}, nil
	}
	if itself, text := readsItself(kind); itself {
		if text {
			return map[string]any{"type": "string"}, nil
		}
		return map[string]any{}, nil
	}
	if format, whole := formats[kind.Kind()]; whole {
		return map[string]any{"type": "integer", "format": format}, nil
	}
	switch kind.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}, nil
	case reflect.Bool:
		return map[string]any{"type": "boolean"}, nil
	case reflect.Float64:
		return map[string]any{"type": "number"}, nil
	case reflect.Float32:
		return map[string]any{"type": "number", "minimum": -float32Max, "maximum": float32Max}, nil
	case reflect.Interface:
		if kind.NumMethod() == 0 {
			return map[string]any{}, nil
		}
	case reflect.Pointer:
		of, err := s.of(kind.Elem())
		return orNull(of), err
	case reflect.Array:
		items, err := s.of(kind.Elem())
		return map[string]any{"type": "array", "items": items, "minItems": kind.Len(), "maxItems": kind.Len()}, err
	case reflect.Slice:
		if kind.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": []string{"string", "null"}, "contentEncoding": "base64", "pattern": base64Text}, nil
		}
		items, err := s.of(kind.Elem())
		return map[string]any{"type": []string{"array", "null"}, "items": items}, err
	case reflect.Map:
		values, err := s.of(kind.Elem())
		schema := map[string]any{"type": []string{"object", "null"}, "additionalProperties": values}
		itself, _ := readsItself(kind.Key())
		if _, whole := formats[kind.Key().Kind()]; whole && !itself {
			schema["propertyNames"] = map[string]any{"pattern": wholeNumber}
		}
		return schema, err
	case reflect.Struct:
		return s.structure(kind)
	}
	return nil, fmt.Errorf("a param cannot be of the type %s", kind)
}

// structure refers to the definition of a struct, and makes it if it is not there. A struct without a name is no definition.
func (s *schemas) structure(kind reflect.Type) (map[string]any, error) {
	if kind.Name() == "" {
		return s.object(kind)
	}
	name, there := s.names[kind]
	if !there {
		name = strings.NewReplacer("[", "_", "]", "", "/", ".", "*", "", ",", "_").Replace(kind.Name())
		for s.definitions[name] != nil {
			name += "_"
		}
		s.names[kind] = name
		// It may refer to itself.
		s.definitions[name] = map[string]any{}
		object, err := s.object(kind)
		if err != nil {
			return nil, err
		}
		s.definitions[name] = object
	}
	return map[string]any{"$ref": "#/$defs/" + name}, nil
}

func (s *schemas) object(kind reflect.Type) (map[string]any, error) {
	properties := map[string]any{}
	required := []string{}
	for _, each := range fieldsOf(kind) {
		schema, err := s.of(each.kind)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", kind, each.goName, err)
		}
		if each.quoted && each.kind.Kind() == reflect.Pointer {
			schema = map[string]any{"type": []string{"string", "null"}}
		} else if each.quoted {
			schema = map[string]any{"type": "string"}
		}
		if comment := s.comment(each.owner, each.goName); comment != "" {
			schema["description"] = comment
		}
		properties[each.name] = schema
		if each.required {
			required = append(required, each.name)
		}
	}
	object := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		object["required"] = required
	}
	if comment := s.comment(kind, ""); comment != "" {
		object["description"] = comment
	}
	return object, nil
}

// comment returns the comment of a struct of the task's own package, or of a field of it.
func (s *schemas) comment(kind reflect.Type, field string) string {
	if kind.PkgPath() != "main" || kind.Name() == "" {
		return ""
	}
	name, _, _ := strings.Cut(kind.Name(), "[")
	return s.comments[strings.TrimSuffix(name+"."+field, ".")]
}

func orNull(schema map[string]any) map[string]any {
	if one, is := schema["type"].(string); is {
		schema["type"] = []string{one, "null"}
		return schema
	}
	if len(schema) == 0 {
		return schema
	}
	if several, is := schema["type"].([]string); is && several[len(several)-1] == "null" {
		return schema
	}
	return map[string]any{"anyOf": []any{schema, map[string]any{"type": "null"}}}
}

// commentsOf reads the comments of the structs in a folder, by TYPE and TYPE.FIELD.
func commentsOf(folder string) map[string]string {
	comments := map[string]string{}
	own := func(info fs.FileInfo) bool { return !strings.HasSuffix(info.Name(), "_test.go") }
	// What cannot be parsed does not compile either.
	packages, _ := parser.ParseDir(token.NewFileSet(), folder, own, parser.ParseComments)
	for _, each := range packages {
		for _, file := range each.Files {
			for _, declaration := range file.Decls {
				if types, is := declaration.(*ast.GenDecl); is && types.Tok == token.TYPE {
					commentsIn(types, comments)
				}
			}
		}
	}
	return comments
}

func commentsIn(types *ast.GenDecl, comments map[string]string) {
	put := func(name string, groups ...*ast.CommentGroup) {
		for _, group := range groups {
			if text := strings.TrimSpace(group.Text()); text != "" && comments[name] == "" {
				comments[name] = text
			}
		}
	}
	for _, specification := range types.Specs {
		named, is := specification.(*ast.TypeSpec)
		if !is {
			continue
		}
		put(named.Name.Name, named.Doc, types.Doc, named.Comment)
		if structure, is := named.Type.(*ast.StructType); is {
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					put(named.Name.Name+"."+name.Name, field.Doc, field.Comment)
				}
			}
		}
	}
}
