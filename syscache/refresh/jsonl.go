package refresh

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxLine bounds a line of a builder's output, in bytes.
const maxLine = 256 << 20

// readRows reads a builder's output, a JSON object a line, and emits each
// row with the number of its line. An empty line is a mistake too: it is how
// output of another kind often begins.
func readRows(r io.Reader, emit func(key, value []byte, line uint64) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	line := uint64(0)
	for s.Scan() {
		line++
		key, value, err := parseRow(s.Bytes())
		if err != nil {
			return fmt.Errorf("line %d of its output: %w", line, err)
		}
		if err := emit(key, value, line); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d of its output is longer than %d MiB", line+1, maxLine>>20)
	}
	return s.Err()
}

// A jsonRow is a line of a builder's output.
type jsonRow struct {
	Key         *string         `json:"key"`
	KeyBase64   *string         `json:"key_base64"`
	Value       json.RawMessage `json:"value"`
	ValueBase64 *string         `json:"value_base64"`
}

// parseRow returns the row that a line stands for. A value given as JSON is
// stored as the JSON text, without insignificant space.
func parseRow(line []byte) (key, value []byte, err error) {
	// The decoder would put U+FFFD in place of what is not UTF-8, and two
	// keys could become one.
	if !utf8.Valid(line) {
		return nil, nil, fmt.Errorf("not UTF-8: %s", excerpt(line))
	}
	var row jsonRow
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&row); err != nil {
		return nil, nil, fmt.Errorf("not a row: %s: %w", excerpt(line), err)
	}
	if d.InputOffset() != int64(len(line)) && len(bytes.TrimSpace(line[d.InputOffset():])) > 0 {
		return nil, nil, fmt.Errorf("more than one value: %s", excerpt(line))
	}
	switch {
	case (row.Key == nil) == (row.KeyBase64 == nil):
		return nil, nil, fmt.Errorf(`want one of "key" and "key_base64": %s`, excerpt(line))
	case (row.Value == nil) == (row.ValueBase64 == nil):
		return nil, nil, fmt.Errorf(`want one of "value" and "value_base64": %s`, excerpt(line))
	}
	if row.Key != nil {
		key = []byte(*row.Key)
	} else if key, err = base64.StdEncoding.DecodeString(*row.KeyBase64); err != nil {
		return nil, nil, fmt.Errorf("key_base64: %w", err)
	}
	if row.Value == nil {
		if value, err = base64.StdEncoding.DecodeString(*row.ValueBase64); err != nil {
			return nil, nil, fmt.Errorf("value_base64: %w", err)
		}
		return key, value, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, row.Value); err != nil {
		return nil, nil, err
	}
	return key, compact.Bytes(), nil
}

// excerpt shows the beginning of a line, harmless.
func excerpt(line []byte) string {
	if len(line) == 0 {
		return "an empty line"
	}
	return quote(line)
}
