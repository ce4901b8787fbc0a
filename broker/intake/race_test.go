//go:build race

package intake

func init() { raceDetector = true }
