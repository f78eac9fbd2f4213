#include <stdio.h>

int main(void) {
    printf("guichet %s\n", GUICHET_VERSION);
    return 0;
}
