-- Passwords of systems that take no hash, sealed, until the machine has had them from its seed.
ALTER TABLE instances ADD COLUMN passwd_sealed TEXT;
ALTER TABLE instances ADD COLUMN passwd_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN passwd_turn BIGINT NOT NULL DEFAULT 0;
CREATE INDEX instances_sealed ON instances (instance_id) WHERE passwd_sealed <> '';
