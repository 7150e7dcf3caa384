#include <stddef.h>

/* Writes a greeting of `name` into `text`. */
void greet(char *text, size_t size, const char *name);
