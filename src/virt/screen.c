/* SPDX-License-Identifier: Apache-2.0 */
/* What is on a screen in text mode, from the memory of its video card: firmware, boot loaders and
 * kernels write there when they have no serial console. */
#include "libvirt-private.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/auto.h"
#include "base/str.h"

IM_DEFINE_AUTO(json_t *, json_decref)

/* All that the card can hold, as a screen that scrolls wanders through it: a letter and its colour
 * in each two bytes, mostly 80 in a row. */
enum { CELLS = 16384, COLUMNS = 80 };

static void end_row(struct im_str *text, char row[COLUMNS + 1], size_t *len) {
    while (*len > 0 && row[*len - 1] == ' ')
        (*len)--;
    row[*len] = '\0';
    if (*len > 0)
        im_str_addf(text, "%s\n", row);
    *len = 0;
}

/* QEMU's answer: lines of "address: 0x0720 0x0741 …". */
static void read_cells(const char *answer, struct im_str *text) {
    char row[COLUMNS + 1];
    size_t len = 0;

    for (const char *at = strstr(answer, " 0x"); at != NULL; at = strstr(at, " 0x")) {
        unsigned letter = (unsigned) strtoul(at + 3, NULL, 16) & 0xff;

        at += 3;
        row[len++] = letter > 0x20 && letter < 0x7f ? (char) letter : ' ';
        if (len == COLUMNS)
            end_row(text, row, &len);
    }
    end_row(text, row, &len);
}

bool lv_screen_text(struct virt_driver *driver, const char *name, char **ret_text,
                    struct im_err *err) {
    IM_AUTO(free_auto)
    char *question = im_printf("{\"execute\":\"human-monitor-command\",\"arguments\":"
                               "{\"command-line\":\"xp /%dhx 0xb8000\"}}",
                               CELLS);
    IM_AUTO(free_auto) char *answer = NULL;
    IM_AUTO(json_decref_auto) json_t *root = NULL;
    struct im_str text = {0};
    const char *cells;

    if (driver->test)
        return im_fail(err, IM_UNSUPPORTED, "libvirt's test driver has no screen");
    if (!lv_monitor(driver, name, question, &answer, err))
        return false;
    root = json_loads(answer, 0, NULL);
    cells = json_string_value(json_object_get(root, "return"));
    if (cells == NULL)
        return im_fail(err, IM_INTERNAL, "machine %s: QEMU's answer cannot be read", name);
    read_cells(cells, &text);
    *ret_text = im_str_take(&text);
    return true;
}
