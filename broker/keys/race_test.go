//go:build race

package keys

func init() { raceDetector = true }
