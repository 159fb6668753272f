/* Notes every fsync that has returned, by the file's name, and fails them while the file SYNC_FAIL exists.
   While the file DISK_FULL exists, there is no room for tables of PostgreSQL. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t name_of(int descriptor, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
    return length;
}

static int watched(const char *name, int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *fail = getenv("SYNC_FAIL"), *log = getenv("SYNC_LOG");
    char path[PATH_MAX], note[PATH_MAX + 8];
    if (fail && access(fail, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int result = real(descriptor);
    if (log && result == 0 && name_of(descriptor, path) > 0) {
        int notes = open(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
        int size = snprintf(note, sizeof note, "sync %s\n", path);
        if (write(notes, note, size) != size) abort();
        close(notes);
    }
    return result;
}

int fsync(int descriptor) { return watched("fsync", descriptor); }
int fdatasync(int descriptor) { return watched("fdatasync", descriptor); }

static int full(int descriptor) {
    const char *flag = getenv("DISK_FULL");
    char path[PATH_MAX];
    return flag && access(flag, F_OK) == 0 && name_of(descriptor, path) > 0 && strstr(path, "/base/");
}

ssize_t pwrite64(int descriptor, const void *content, size_t size, off64_t at) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = (void *)dlsym(RTLD_NEXT, "pwrite64");
    if (!full(descriptor)) return real(descriptor, content, size, at);
    errno = ENOSPC;
    return -1;
}

ssize_t pwritev64(int descriptor, const struct iovec *content, int count, off64_t at) {
    ssize_t (*real)(int, const struct iovec *, int, off64_t) = (void *)dlsym(RTLD_NEXT, "pwritev64");
    if (!full(descriptor)) return real(descriptor, content, count, at);
    errno = ENOSPC;
    return -1;
}

int posix_fallocate64(int descriptor, off64_t at, off64_t size) {
    int (*real)(int, off64_t, off64_t) = (void *)dlsym(RTLD_NEXT, "posix_fallocate64");
    return full(descriptor) ? ENOSPC : real(descriptor, at, size);
}

ssize_t pwrite(int descriptor, const void *content, size_t size, off_t at) {
    return pwrite64(descriptor, content, size, at);
}
ssize_t pwritev(int descriptor, const struct iovec *content, int count, off_t at) {
    return pwritev64(descriptor, content, count, at);
}
int posix_fallocate(int descriptor, off_t at, off_t size) { return posix_fallocate64(descriptor, at, size); }
