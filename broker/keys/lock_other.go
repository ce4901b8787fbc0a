//go:build !unix

package keys

import "os"

// flock holds nothing where there is no flock: there one operator at a time
// changes a keystore.
func flock(*os.File) error { return nil }
