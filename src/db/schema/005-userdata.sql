-- The folder in the guest for metadata and user data, where one was asked for.
ALTER TABLE instances ADD COLUMN userdata_path TEXT;
