-- Data disks and points in time. Columns are the fields of src/model/model.c.
CREATE TABLE volumes (volume_id TEXT PRIMARY KEY, volume_name TEXT, description TEXT,
    size BIGINT NOT NULL, volume_type BIGINT NOT NULL, status TEXT NOT NULL,
    transition_status TEXT NOT NULL, sub_code BIGINT NOT NULL, create_time BIGINT NOT NULL,
    status_time BIGINT NOT NULL, owner TEXT, zone_id TEXT, repl TEXT, place_group_id TEXT,
    device TEXT, instance_id TEXT, layer_id TEXT, latest_snapshot_time BIGINT NOT NULL,
    busy BIGINT NOT NULL);
CREATE INDEX volumes_owner ON volumes (owner, create_time);
CREATE INDEX volumes_time ON volumes (create_time, volume_id);
CREATE INDEX volumes_instance ON volumes (instance_id);
CREATE INDEX volumes_layer ON volumes (layer_id);
CREATE TABLE snapshots (snapshot_id TEXT PRIMARY KEY, snapshot_name TEXT, description TEXT,
    snapshot_type BIGINT NOT NULL, status TEXT NOT NULL, transition_status TEXT NOT NULL,
    sub_code BIGINT NOT NULL, parent_id TEXT, root_id TEXT, is_head BIGINT NOT NULL,
    is_taken BIGINT NOT NULL, head_chain BIGINT NOT NULL, size BIGINT NOT NULL,
    virtual_size BIGINT NOT NULL, snapshot_time BIGINT NOT NULL, create_time BIGINT NOT NULL,
    status_time BIGINT NOT NULL, provider TEXT, visibility TEXT, owner TEXT, consistency TEXT,
    is_manually BIGINT NOT NULL, resource_id TEXT, resource_name TEXT, resource_type TEXT,
    layer_id TEXT, own_bytes BIGINT NOT NULL, disk_size BIGINT NOT NULL,
    volume_type BIGINT NOT NULL, image_id TEXT, platform TEXT, firmware TEXT, instance_type TEXT);
CREATE INDEX snapshots_owner ON snapshots (owner, create_time);
CREATE INDEX snapshots_time ON snapshots (create_time, snapshot_id);
CREATE INDEX snapshots_resource ON snapshots (resource_id);
CREATE INDEX snapshots_root ON snapshots (root_id);
CREATE INDEX snapshots_layer ON snapshots (layer_id);
