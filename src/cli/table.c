/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that fit the terminal, text cut by the columns it takes, and CSV. */
#include "cli-private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <wchar.h>

enum { GAP = 2, SQUEEZED = 10, COLUMNS_MAX = 32 };

unsigned terminal_width(int fd) {
    const char *columns = getenv("COLUMNS");
    struct winsize size = {0};
    int64_t width;

    if (im_parse_i64(columns, 20, 10000, &width))
        return (unsigned) width;
    if (!isatty(fd))
        return 0;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return 80;
    return size.ws_col < 20 ? 20 : size.ws_col;
}

bool terminal_colours(int fd) {
    return isatty(fd) && im_str_empty(getenv("NO_COLOR")) && !im_str_equal(getenv("TERM"), "dumb");
}

/* One character: its bytes and the columns it takes. What is no text, or would move the cursor, is
 * shown as '?'. */
static size_t step(const char *text, unsigned *ret_width, bool *ret_shown) {
    mbstate_t state = {0};
    wchar_t wide;
    size_t len = mbrtowc(&wide, text, strlen(text), &state);
    int width = len == 0 || len >= (size_t) -2 ? -1 : wcwidth(wide);

    *ret_shown = width >= 0;
    *ret_width = width >= 0 ? (unsigned) width : 1;
    return len == 0 || len >= (size_t) -2 ? 1 : len;
}

unsigned text_width(const char *text) {
    unsigned width = 0, one;
    bool shown;

    while (*text != '\0') {
        text += step(text, &one, &shown);
        width += one;
    }
    return width;
}

void text_fit(struct im_str *out, const char *text, unsigned width, bool pad) {
    bool cut = text_width(text) > width, shown;
    unsigned room = cut && width > 0 ? width - 1 : width, used = 0, one;

    while (*text != '\0') {
        size_t len = step(text, &one, &shown);

        if (used + one > room)
            break;
        if (shown)
            im_str_add_bytes(out, text, len);
        else
            im_str_add_char(out, '?');
        used += one;
        text += len;
    }
    if (cut && width > 0) {
        im_str_add(out, "…");
        used++;
    }
    for (; pad && used < width; used++)
        im_str_add_char(out, ' ');
}

/* --- Layout ----------------------------------------------------------------------------------- */

static const char *cell(const struct table *table, size_t row, size_t column) {
    return table->cells.items[row * table->columns + column];
}

static unsigned total(const unsigned *widths, size_t columns) {
    unsigned sum = 0;

    for (size_t i = 0; i < columns; i++)
        sum += widths[i] > 0 ? widths[i] + (sum > 0 ? GAP : 0) : 0;
    return sum;
}

/* Takes what is too much from the widest of the columns that may be squeezed, a column at a time.
 */
static void squeeze(const struct table *table, unsigned *widths, unsigned width) {
    while (total(widths, table->columns) > width) {
        size_t widest = table->columns;

        for (size_t i = 0; i < table->columns; i++)
            if (table->ranks[i] >= 1 && widths[i] > SQUEEZED &&
                (widest == table->columns || widths[i] > widths[widest]))
                widest = i;
        if (widest == table->columns)
            return;
        widths[widest]--;
    }
}

static unsigned least(const struct table *table, const unsigned *widths) {
    unsigned small[COLUMNS_MAX];

    for (size_t i = 0; i < table->columns; i++)
        small[i] = table->ranks[i] >= 1 && widths[i] > SQUEEZED ? SQUEEZED : widths[i];
    return total(small, table->columns);
}

/* Drops the columns of less use that do not fit as they are, squeezes the others, and drops those
 * too, from the right, when even that is too wide. */
static void fit_columns(const struct table *table, unsigned *widths, unsigned width) {
    for (int rank = 3; rank >= 2; rank--)
        for (size_t i = table->columns; i-- > 0;)
            if (table->ranks[i] == rank && total(widths, table->columns) > width)
                widths[i] = 0;
    for (size_t i = table->columns; i-- > 1;)
        if (table->ranks[i] >= 1 && least(table, widths) > width)
            widths[i] = 0;
    squeeze(table, widths, width);
}

char *table_layout(const struct table *table, unsigned width, bool bold_titles) {
    size_t rows = table->columns > 0 ? table->cells.count / table->columns : 0;
    unsigned widths[COLUMNS_MAX] = {0};
    struct im_str out = {0};

    for (size_t i = 0; i < table->columns; i++) {
        widths[i] = text_width(table->titles[i]);
        for (size_t row = 0; row < rows; row++) {
            unsigned wide = text_width(cell(table, row, i));

            if (wide > widths[i])
                widths[i] = wide;
        }
    }
    if (width > 0)
        fit_columns(table, widths, width);
    for (size_t row = 0; row <= rows; row++) {
        size_t start = out.len;

        if (row == 0 && bold_titles)
            im_str_add(&out, "\033[1m");
        for (size_t i = 0, shown = 0; i < table->columns; i++) {
            const char *text = row == 0 ? table->titles[i] : cell(table, row - 1, i);
            unsigned wide = text_width(text);

            if (widths[i] == 0)
                continue;
            if (shown++ > 0)
                im_str_add(&out, "  ");
            if (table->right[i] && wide < widths[i])
                im_str_addf(&out, "%*s", (int) (widths[i] - wide), "");
            text_fit(&out, text, table->right[i] && wide < widths[i] ? wide : widths[i], true);
        }
        while (out.len > start && out.data[out.len - 1] == ' ')
            out.data[--out.len] = '\0';
        if (row == 0 && bold_titles)
            im_str_add(&out, "\033[0m");
        im_str_add_char(&out, '\n');
    }
    return im_str_take(&out);
}

void csv_field(struct im_str *out, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        im_str_add(out, text);
        return;
    }
    im_str_add_char(out, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"')
            im_str_add_char(out, '"');
        im_str_add_char(out, *text);
    }
    im_str_add_char(out, '"');
}
