package refresh

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxLine bounds a line of a builder's output, in bytes.
const maxLine = 256 << 20

// readRows reads a builder's output, a JSON object a line, and emits each row.
// An empty line is a mistake too: it is how output of another kind often begins.
func readRows(r io.Reader, emit func(builtRow) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	s.Split(lineByLine())
	line := uint64(0)
	for s.Scan() {
		line++
		row, err := parseRow(s.Bytes())
		if err != nil {
			return &HintedError{fmt.Errorf("line %d of its output: %w", line, err), rowHint}
		}
		row.line = line
		if err := emit(row); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return &HintedError{fmt.Errorf("line %d of its output is longer than %d MiB", line+1, maxLine>>20), rowHint}
	}
	return s.Err()
}

// lineByLine splits as bufio.ScanLines does, but looks at each byte of a line
// that comes in many pieces once, not again with each piece: 256 MiB from a
// pipe took more than a minute.
func lineByLine() bufio.SplitFunc {
	searched := 0
	return func(data []byte, atEOF bool) (advance int, token []byte, err error) {
		if !atEOF && bytes.IndexByte(data[searched:], '\n') < 0 {
			searched = len(data)
			return 0, nil, nil
		}
		searched = 0
		return bufio.ScanLines(data, atEOF)
	}
}

const rowHint = `print a JSON object a line, {"key": "...", "value": ...}, and all else on stderr`

// parseRow returns the row that a line stands for. A value given as JSON is
// stored as the JSON text, without insignificant space.
//
// It is stricter than the library's own decoding into a struct, which takes
// "KEY" for "key", the last of two, and U+FFFD for what is no character: two
// keys could become one.
func parseRow(line []byte) (row builtRow, err error) {
	if !utf8.Valid(line) {
		return row, fmt.Errorf("not UTF-8: %s", excerpt(line))
	}
	if !json.Valid(line) || bytes.TrimLeft(line, " \t\r")[0] != '{' {
		return row, fmt.Errorf("not a JSON object: %s", excerpt(line))
	}
	fields, err := fieldsOf(line)
	if err == nil {
		row, err = rowOf(fields)
	}
	if err != nil {
		return builtRow{}, fmt.Errorf("%w: %s", err, excerpt(line))
	}
	return row, nil
}

// rowOf returns the row that has the fields of a line.
func rowOf(fields map[string]json.RawMessage) (row builtRow, err error) {
	switch has := func(name string) bool { return fields[name] != nil }; {
	case has("key") == has("key_base64"):
		return row, errors.New(`want one of "key" and "key_base64"`)
	case has("value") == has("value_base64"):
		return row, errors.New(`want one of "value" and "value_base64"`)
	case has("from") && has("from_base64"):
		return row, errors.New(`want one of "from" and "from_base64"`)
	}
	if row.key, err = bytesOf(fields, "key"); err != nil {
		return row, err
	}
	if row.from, err = bytesOf(fields, "from"); err != nil {
		return row, err
	}
	if fields["value"] == nil {
		row.value, err = bytesOf(fields, "value")
		return row, err
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, fields["value"])
	row.value = compact.Bytes()
	return row, err
}

// bytesOf returns what stands as text in the field name, or in base64 in the
// other, nil if in neither.
func bytesOf(fields map[string]json.RawMessage, name string) ([]byte, error) {
	if raw := fields[name]; raw != nil {
		return text(name, raw)
	}
	name += "_base64"
	if raw := fields[name]; raw != nil {
		return base64Text(name, raw)
	}
	return nil, nil
}

// fieldsOf returns the fields of a JSON object, which is valid.
func fieldsOf(object []byte) (map[string]json.RawMessage, error) {
	fields := make(map[string]json.RawMessage, 2)
	d := json.NewDecoder(bytes.NewReader(object))
	d.Token() // the brace
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		switch name {
		case "key", "key_base64", "value", "value_base64", "from", "from_base64":
		default:
			return nil, fmt.Errorf("unknown field %q", name)
		}
		if fields[name.(string)] != nil {
			return nil, fmt.Errorf("two fields %q", name)
		}
		fields[name.(string)] = value
	}
	return fields, nil
}

// text returns the string that a field is.
func text(name string, raw json.RawMessage) ([]byte, error) {
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return nil, fmt.Errorf("%q is not a string", name)
	}
	if strings.ContainsRune(s, utf8.RuneError) && loneSurrogate(raw) {
		return nil, fmt.Errorf("%q has half of a surrogate pair", name)
	}
	return []byte(s), nil
}

// surrogates matches an escaped backslash, a pair, or half of one.
var surrogates = regexp.MustCompile(`\\\\|(?i:\\ud[89ab]..\\ud[c-f]..|\\ud[89a-f]..)`)

// loneSurrogate says whether a JSON string escapes half of a pair.
func loneSurrogate(raw []byte) bool {
	const half = len(`\ud800`)
	return slices.ContainsFunc(surrogates.FindAll(raw, -1), func(m []byte) bool { return len(m) == half })
}

func base64Text(name string, raw json.RawMessage) ([]byte, error) {
	s, err := text(name, raw)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(string(s))
	if err != nil {
		return nil, fmt.Errorf("%q is not base64", name)
	}
	return b, nil
}

// excerpt shows the beginning of a line, harmless.
func excerpt(line []byte) string {
	if len(line) == 0 {
		return "an empty line"
	}
	return quote(line)
}
