/* SPDX-License-Identifier: Apache-2.0 */
/* Systems of the families that there are, as their makers' cloud images have them: none of these
 * has anything wrong with it. Then each with one defect, which is found, and nothing else. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-disk.h"
#include "test-systems.h"

/* Of the families' own weight: what no machine is refused or blamed for. */
static char *blame_of(const struct guest_inspection *found) {
    struct im_str text = {0};

    for (size_t i = 0; i < found->finding_count; i++)
        if (found->findings[i].severity != GUEST_INFO)
            im_str_addf(&text, "%s%s", text.len > 0 ? " " : "", found->findings[i].code);
    return im_str_take(&text);
}

static void tell(const struct guest_inspection *found) {
    for (size_t i = 0; i < found->finding_count; i++)
        test_note("%s: %s", found->findings[i].code, found->findings[i].text);
}

/* --- As they come ----------------------------------------------------------------------------- */

static void test_family(const struct family *family) {
    struct disk disk = make_system(&family->entries, 1);
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(free_auto) char *blame = NULL;

    if (disk.bytes == NULL)
        return;
    found = look(&disk);
    blame = blame_of(found);
    if (!check(blame[0] == '\0', "%s as it comes: nothing is wrong [%s]", family->name, blame))
        tell(found);
    check(strcmp(found->os.osinfo, family->osinfo) == 0 &&
              strcmp(found->os.init, family->init) == 0 &&
              strcmp(found->os.ui, family->desktop ? "gui" : "tui") == 0 &&
              found->os.packages == family->packages,
          "%s: %s, %s, %s, %u packages", family->name, found->os.osinfo, found->os.init,
          found->os.ui, found->os.packages);
    drop_disk(&disk);
}

/* --- One defect at a time --------------------------------------------------------------------- */

static void test_defect(const struct defect *defect) {
    const struct family *family = family_named(defect->family);
    const struct entry *const parts[] = {family->entries, defect->entries};
    struct disk disk = make_system(parts, 2);
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(free_auto) char *codes = NULL;
    bool told = false;

    if (disk.bytes == NULL)
        return;
    found = look(&disk);
    codes = defect->all ? codes_of(found) : blame_of(found);
    for (size_t i = 0; i < found->finding_count; i++)
        told |= defect->words == NULL || strstr(found->findings[i].text, defect->words) != NULL;
    if (!check(strcmp(codes, defect->codes) == 0 && (told || defect->codes[0] == '\0'),
               "%s, %s: finds [%s]", family->name, defect->name, codes))
        tell(found);
    drop_disk(&disk);
}

int main(void) {
    for (size_t i = 0; i < family_count; i++)
        test_family(&families[i]);
    for (size_t i = 0; i < defect_count; i++)
        test_defect(&defects[i]);
    return test_end();
}
