//go:build race

package match

func init() { raceDetector = true }
