package lock

import (
	"strings"
	"testing"
	"time"
)

func TestHolderString(t *testing.T) {
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for _, tt := range []struct {
		h    Holder
		want string
	}{
		{Holder{}, "another process"},
		{Holder{Command: "syscache"}, "another process"},
		{Holder{PID: 4242}, "pid 4242 of uid 0"},
		{Holder{PID: 4242, UID: -1}, "pid 4242"},
		{Holder{PID: 4242, UID: -1, Command: "syscache refresh"}, "pid 4242 (syscache refresh)"},
		{Holder{PID: 4242, UID: 61001, Command: "syscache refresh", Since: ago(12500 * time.Millisecond)}, "pid 4242 (syscache refresh) of uid 61001, started 12 s ago"},
		{Holder{PID: 4242, UID: -1, Since: ago(-time.Hour)}, "pid 4242, started 0 s ago"},
		{Holder{PID: 4242, UID: -1, Since: ago(10*time.Minute + time.Second)}, "pid 4242, started 10 min ago"},
		{Holder{PID: 4242, UID: -1, Since: ago(50*time.Hour + time.Second)}, "pid 4242, started 50 h ago"},
	} {
		if got := tt.h.String(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.h, got, tt.want)
		}
	}
}

func TestCommandOf(t *testing.T) {
	for _, tt := range []struct{ cmdline, want string }{
		{"", ""},
		{"\x00x\x00", ""},
		{"syscache\x00refresh\x00", "syscache refresh"},
		{"/usr/bin/syscache\x00--hook\x00-q\x00refresh\x00star-imports\x00", "syscache refresh"},
		{"syscache\x00--cache-dir\x00/x\x00refresh\x00", "syscache refresh"},
		{"syscache\x00--root\x00z\x00--wait\x00soon\x00refresh\x00x\x00", "syscache refresh"},
		{"syscache\x00--root=z\x00refresh\x00", "syscache refresh"},
		{"syscache\x00--root\x00--root\x00refresh\x00", "syscache refresh"},
		{"python3\x00/opt/x.py\x00", "python3"},
		{"sh\x00-c\x00rm -rf /\x00", "sh"},
		{"syscache\x00re\x1bfresh\x00", "syscache"},
		{"nginx: master process /usr/sbin/nginx", "nginx"},
		{"a\nb\tc\x1b[31m\u009b\u202e\u00e9\xff", "a?b?c?[31m??\u00e9?"},
		{strings.Repeat("\u00e9", 50), strings.Repeat("\u00e9", 40) + "..."},
		{"x\x00" + strings.Repeat("a", 21), "x"},
	} {
		if got := commandOf(tt.cmdline); got != tt.want {
			t.Errorf("commandOf(%q) = %q, want %q", tt.cmdline, got, tt.want)
		}
	}
}
