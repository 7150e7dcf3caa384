// Hello greets everybody it is told of.
package main

import (
	"os"

	"example.com/greeting"
)

func main() {
	for _, name := range append(os.Args[1:], "world") {
		os.Stdout.WriteString(greeting.To(name) + "\n")
	}
}
