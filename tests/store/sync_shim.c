/* Notes every fsync that has returned, by the file's name, and fails them while the file SYNC_FAIL exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int watched(const char *name, int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *fail = getenv("SYNC_FAIL"), *log = getenv("SYNC_LOG");
    char link[64], path[PATH_MAX], note[PATH_MAX + 8];
    if (fail && access(fail, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int result = real(descriptor);
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (log && result == 0 && length > 0) {
        path[length] = 0;
        int notes = open(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
        int size = snprintf(note, sizeof note, "sync %s\n", path);
        if (write(notes, note, size) != size) abort();
        close(notes);
    }
    return result;
}

int fsync(int descriptor) { return watched("fsync", descriptor); }
int fdatasync(int descriptor) { return watched("fdatasync", descriptor); }
