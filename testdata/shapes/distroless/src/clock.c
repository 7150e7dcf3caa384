/* Says who runs it, and what time it was at a moment that it is told of. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words)
{
    time_t moment = count > 1 ? atoll(words[1]) : 0;
    struct passwd *user = getpwuid(getuid());
    char text[64];

    strftime(text, sizeof text, "%Y-%m-%d %H:%M", gmtime(&moment));
    printf("It was %s, says %s.\n", text, user ? user->pw_name : "nobody");
    return access(getenv("SSL_CERT_FILE"), R_OK) == 0 ? 0 : 1;
}
