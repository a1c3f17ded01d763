/* SPDX-License-Identifier: Apache-2.0 */
/* Modules by the list that was made with the appliance, and what the kernel says. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "appliance-private.h"
#include "base/fd.h"
#include "base/mem.h"

#define MODULES "/modules"
#define LIST_MAX 65536
enum { WAITS = 1000, WAIT_US = 10000, COMPLAINTS = 3, WARNING = 4 };

/* --- Modules ---------------------------------------------------------------------------------- */

static void load_file(const char *name) {
    IM_AUTO(free_auto) char *path = im_printf(MODULES "/%s", name);
    IM_AUTO(fd_auto) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        fprintf(stderr, "module %s: %s\n", name, strerror(errno));
}

/* A line of the list: a module's name, then its files in the order in which they are loaded. */
void module_load(const char *name) {
    IM_AUTO(im_strings_done) struct im_strings lines = {0};
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err ignored = {0};
    size_t len;

    if (!im_read_file(MODULES "/list", LIST_MAX, &text, &len, &ignored))
        return;
    im_strings_split(&lines, text, "\n");
    for (size_t i = 0; i < lines.count; i++) {
        IM_AUTO(im_strings_done) struct im_strings words = {0};

        im_strings_split(&words, lines.items[i], " ");
        if (words.count == 0 || strcmp(words.items[0], name) != 0)
            continue;
        for (size_t k = 1; k < words.count; k++)
            load_file(words.items[k]);
    }
}

bool device_wait(const char *path, struct im_err *err) {
    for (int i = 0; i < WAITS; i++) {
        if (access(path, F_OK) == 0)
            return true;
        (void) usleep(WAIT_US);
    }
    return im_fail(err, IM_INTERNAL, "the appliance has no %s", path);
}

/* --- Its log ---------------------------------------------------------------------------------- */

static int klog = -1;

void klog_open(void) { klog = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC); }

void klog_mark(void) { (void) lseek(klog, 0, SEEK_END); }

/* "priority,number,time,flags;text\n": the text of a complaint, else NULL. */
static char *complaint(char *record) {
    char *text = strchr(record, ';'), *end = strchr(record, '\n');

    if (!text || strtoul(record, NULL, 10) % 8 > WARNING)
        return NULL;
    if (end)
        *end = '\0';
    for (char *c = text + 1; *c; c++)
        if ((unsigned char) *c < ' ' || (unsigned char) *c > '~')
            *c = '?';
    return text + 1;
}

bool klog_add(struct im_err *err) {
    char record[8192];
    int told = 0;

    while (told < COMPLAINTS) {
        ssize_t got = read(klog, record, sizeof(record) - 1);
        size_t used = strlen(err->text);
        const char *text;

        if (got < 0 && (errno == EPIPE || errno == EINTR)) /* some were overwritten */
            continue;
        if (got <= 0)
            break;
        record[got] = '\0';
        text = complaint(record);
        if (!text)
            continue;
        snprintf(err->text + used, sizeof(err->text) - used, "%s%.120s",
                 told == 0 ? "; its kernel says: " : "; ", text);
        told++;
    }
    return false;
}
