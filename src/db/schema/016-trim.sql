-- What images do without of the disk that they were made of.
ALTER TABLE images ADD COLUMN trimmed_bytes BIGINT NOT NULL DEFAULT 0;
