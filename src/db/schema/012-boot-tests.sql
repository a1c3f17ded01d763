-- Machines that were started to see them start. Columns are the fields of src/model/model.c.
CREATE TABLE boot_tests (boot_test_id TEXT PRIMARY KEY, resource_id TEXT NOT NULL, status TEXT NOT NULL, verdict TEXT,
    reason TEXT, message TEXT, evidence TEXT, hint TEXT, vcpus BIGINT NOT NULL, memory BIGINT NOT NULL,
    timeout BIGINT NOT NULL, seconds BIGINT NOT NULL, clean_shutdown BIGINT NOT NULL, firmware TEXT, accel TEXT,
    serial_bytes BIGINT NOT NULL, screen_bytes BIGINT NOT NULL, owner TEXT, job_id TEXT, create_time BIGINT NOT NULL,
    end_time BIGINT NOT NULL, timeline TEXT, layer_id TEXT);
CREATE INDEX boot_tests_owner ON boot_tests (owner, create_time);
CREATE INDEX boot_tests_time ON boot_tests (create_time, boot_test_id);
CREATE INDEX boot_tests_resource ON boot_tests (resource_id, create_time);
