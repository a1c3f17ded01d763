-- What was found on the disks of images.
ALTER TABLE images ADD COLUMN report TEXT;
