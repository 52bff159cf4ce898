-- Templates take one byte a value. `scale` is the size of a step; a template without one is of 32-bit
-- floats, as before. Packed templates end in zeros where their length is no multiple of four.
ALTER TABLE templates ADD COLUMN scale REAL CHECK (scale > 0);

-- Users with the number of occasions on which they walked: walks that follow one another within an hour
-- are of one. A second occasion cuts misses more than a longer first one.
DROP VIEW user_summaries;
CREATE VIEW user_summaries AS
SELECT
    id,
    created_at_unix_seconds,
    (SELECT count(*) FROM enrollments WHERE user_id = users.id) AS enrollments,
    (SELECT coalesce(sum(windows), 0)
     FROM enrollments JOIN templates ON enrollment_id = enrollments.id
     WHERE user_id = users.id AND model = (SELECT models.id FROM models WHERE active = 1)) AS windows,
    (SELECT count(*) FROM enrollments AS walk WHERE walk.user_id = users.id AND NOT EXISTS
     (SELECT 1 FROM enrollments AS earlier
      WHERE earlier.user_id = walk.user_id AND earlier.id < walk.id
      AND earlier.created_at_unix_seconds >= walk.created_at_unix_seconds - 3600)) AS occasions
FROM users;
