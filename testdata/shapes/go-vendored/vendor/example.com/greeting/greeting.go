// Package greeting knows what to say.
package greeting

// To greets somebody by name.
func To(name string) string {
	return "Good morning, " + name + "!"
}
