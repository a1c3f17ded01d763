-- Columns are the fields of src/model/model.c: TEXT, integers and times as BIGINT, enums as their words.
CREATE TABLE users (user_id TEXT PRIMARY KEY, user_name TEXT NOT NULL UNIQUE, email TEXT,
    role TEXT NOT NULL, status TEXT NOT NULL, create_time BIGINT NOT NULL);
CREATE TABLE access_keys (access_key_id TEXT PRIMARY KEY, access_key_name TEXT, description TEXT,
    owner TEXT NOT NULL, secret_sealed TEXT, status TEXT NOT NULL, create_time BIGINT NOT NULL,
    status_time BIGINT NOT NULL);
CREATE INDEX access_keys_owner ON access_keys (owner);
CREATE TABLE layers (layer_id TEXT PRIMARY KEY, pool TEXT NOT NULL, name TEXT NOT NULL,
    parent_id TEXT, state TEXT NOT NULL, size_bytes BIGINT NOT NULL, depth BIGINT NOT NULL,
    digest TEXT, create_time BIGINT NOT NULL);
CREATE UNIQUE INDEX layers_name ON layers (pool, name);
CREATE INDEX layers_parent ON layers (parent_id);
CREATE INDEX layers_state ON layers (state);
CREATE TABLE images (image_id TEXT PRIMARY KEY, image_name TEXT, description TEXT,
    size BIGINT NOT NULL, processor_type TEXT, platform TEXT, os_family TEXT, visibility TEXT,
    provider TEXT, owner TEXT, recommended_type TEXT, status TEXT NOT NULL,
    transition_status TEXT NOT NULL, sub_code BIGINT NOT NULL, ui_type TEXT, hypervisor TEXT,
    default_user TEXT, default_passwd TEXT, f_resetpwd BIGINT NOT NULL, features BIGINT NOT NULL,
    feature BIGINT NOT NULL, architecture TEXT, root_id TEXT, billing_id TEXT, app_billing_id TEXT,
    family TEXT, firmware TEXT, source TEXT, digest TEXT, size_bytes BIGINT NOT NULL,
    layer_id TEXT, create_time BIGINT NOT NULL, status_time BIGINT NOT NULL);
CREATE INDEX images_owner ON images (owner, create_time);
CREATE INDEX images_time ON images (create_time, image_id);
CREATE INDEX images_family ON images (family);
CREATE INDEX images_layer ON images (layer_id);
CREATE TABLE uploads (image_id TEXT PRIMARY KEY, data TEXT NOT NULL, create_time BIGINT NOT NULL);
CREATE TABLE instances (instance_id TEXT PRIMARY KEY, instance_name TEXT, description TEXT,
    instance_type TEXT, instance_class BIGINT NOT NULL, vcpus_current BIGINT NOT NULL,
    memory_current BIGINT NOT NULL, cpu_topology TEXT, status TEXT NOT NULL,
    transition_status TEXT NOT NULL, sub_code BIGINT NOT NULL, create_time BIGINT NOT NULL,
    status_time BIGINT NOT NULL, zone_id TEXT, owner TEXT, platform TEXT, hostname TEXT,
    host_machine TEXT, graphics_protocol TEXT, graphics_passwd TEXT, graphics_port TEXT,
    agent_state TEXT, unapplied TEXT, image_id TEXT, layer_id TEXT, os_disk_size BIGINT NOT NULL,
    cpu_max BIGINT NOT NULL, mem_max BIGINT NOT NULL, nic_mqueue BIGINT NOT NULL, cpu_model TEXT,
    login_mode TEXT, passwd_hash TEXT, userdata TEXT, generation BIGINT NOT NULL, firmware TEXT);
CREATE INDEX instances_owner ON instances (owner, create_time);
CREATE INDEX instances_time ON instances (create_time, instance_id);
CREATE INDEX instances_status ON instances (status);
CREATE INDEX instances_image ON instances (image_id);
CREATE INDEX instances_layer ON instances (layer_id);
CREATE TABLE nics (nic_id TEXT PRIMARY KEY, nic_name TEXT, status TEXT, instance_id TEXT,
    vxnet_id TEXT, private_ip TEXT, role BIGINT NOT NULL, sequence BIGINT NOT NULL,
    security_group TEXT, owner TEXT, ssh_port BIGINT NOT NULL, create_time BIGINT NOT NULL,
    status_time BIGINT NOT NULL);
CREATE INDEX nics_instance ON nics (instance_id);
-- In user-mode networking every machine has the same address behind a port of its own.
CREATE UNIQUE INDEX nics_address ON nics (vxnet_id, private_ip)
    WHERE private_ip <> '' AND private_ip <> '10.0.2.15';
CREATE INDEX nics_ip ON nics (private_ip);
CREATE UNIQUE INDEX nics_port ON nics (ssh_port) WHERE ssh_port <> 0;
CREATE TABLE keypairs (keypair_id TEXT PRIMARY KEY, keypair_name TEXT, description TEXT,
    encrypt_method TEXT NOT NULL, pub_key TEXT NOT NULL, owner TEXT, create_time BIGINT NOT NULL);
CREATE INDEX keypairs_owner ON keypairs (owner);
CREATE TABLE keypair_links (link_id TEXT PRIMARY KEY, keypair_id TEXT NOT NULL,
    instance_id TEXT NOT NULL);
CREATE INDEX keypair_links_keypair ON keypair_links (keypair_id);
CREATE INDEX keypair_links_instance ON keypair_links (instance_id);
CREATE TABLE jobs (job_id TEXT PRIMARY KEY, job_action TEXT NOT NULL, status TEXT NOT NULL,
    resource_ids TEXT, owner TEXT, error_codes TEXT, directive TEXT, create_time BIGINT NOT NULL,
    status_time BIGINT NOT NULL, error_message TEXT, done_bytes BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL, rate_bytes BIGINT NOT NULL, cancel BIGINT NOT NULL, worker TEXT);
CREATE INDEX jobs_owner ON jobs (owner, create_time);
CREATE INDEX jobs_status ON jobs (status);
CREATE TABLE job_items (item_id TEXT PRIMARY KEY, job_id TEXT NOT NULL, resource_id TEXT,
    state TEXT NOT NULL, step BIGINT NOT NULL, data TEXT, error_code TEXT, error_message TEXT);
CREATE INDEX job_items_job ON job_items (job_id);
CREATE INDEX job_items_state ON job_items (state);
