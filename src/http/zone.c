/* SPDX-License-Identifier: Apache-2.0 */
/* Zones: this cloud is one. */
#include <string.h>

#include "http-private.h"

static bool wanted(const struct request *request, const char *name, const char *value) {
    IM_AUTO(im_strings_done) struct im_strings list = {0};
    bool found;

    request_list(request, name, &list);
    found = list.count == 0;
    for (size_t i = 0; i < list.count && !found; i++)
        found = strcmp(list.items[i], value) == 0;
    return found;
}

static bool describe_zones(struct request *request, struct im_err *err) {
    const char *zone = cloud_zone(request->cloud);
    bool shown = wanted(request, "zones", zone) && wanted(request, "status", "active");

    (void) err;
    wire_int(&request->reply, "total_count", shown);
    wire_array_begin(&request->reply, "zone_set");
    if (shown) {
        wire_object_begin(&request->reply, NULL);
        wire_text(&request->reply, "zone_id", zone);
        wire_text(&request->reply, "status", "active");
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_zones_params[] = {
    {"zones", HTTP_LIST, 0, 0, 100, NULL, NULL, "ids"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, NULL, "active, faulty, defunct"},
    {0},
};

const struct http_action zone_actions[] = {
    {"DescribeZones", describe_zones_params, HTTP_NO_ZONE, NULL, describe_zones, "lists zones"},
    {0},
};
