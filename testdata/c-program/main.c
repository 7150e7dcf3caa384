#include <stdio.h>
#include "greeting/greeting.h"

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        char text[256];
        greet(text, sizeof text, argv[i]);
        puts(text);
    }
    return argc > 1 ? 0 : 1;
}
