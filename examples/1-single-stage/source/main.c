#include <stdio.h>
#include <sys/utsname.h>

int main(void)
{
    struct utsname host;

    if (uname(&host) != 0) {
        perror("uname");
        return 1;
    }
    printf("Hello from C on %s/%s\n", host.sysname, host.machine);
    return 0;
}
