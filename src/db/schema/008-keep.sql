-- Digests of layers, what is known to be damaged, and copies in a second pool.
ALTER TABLE layers ADD COLUMN file_digest TEXT;
ALTER TABLE layers ADD COLUMN checked_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE layers ADD COLUMN damage TEXT;
CREATE INDEX layers_damage ON layers (layer_id) WHERE damage <> '';
ALTER TABLE images ADD COLUMN damaged BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN damaged BIGINT NOT NULL DEFAULT 0;
ALTER TABLE volumes ADD COLUMN damaged BIGINT NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN damaged BIGINT NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN copy_time BIGINT NOT NULL DEFAULT 0;
CREATE TABLE second_pools (uri TEXT PRIMARY KEY, used_time BIGINT NOT NULL);
