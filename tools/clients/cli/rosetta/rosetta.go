// Package rosetta stands in for github.com/tonistiigi/go-rosetta, which Go's module proxy does not have. docker's CLI asks
// whether a macOS translates it: nowhere else does anything.
package rosetta

import "runtime"

func Enabled() bool { return false }

func Available() bool { return false }

func NativeArch() string { return runtime.GOARCH }
