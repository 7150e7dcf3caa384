/* Prints numbers in their order. */
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

int main(int count, char **words)
{
    int *numbers = calloc(count, sizeof *numbers);

    for (int i = 1; i < count; i++)
        numbers[i - 1] = atoi(words[i]);
    qsort(numbers, count - 1, sizeof *numbers, compare);
    for (int i = 0; i < count - 1; i++)
        printf("%d\n", numbers[i]);
    return 0;
}
