-- Templates are transformed with a secret of the keyring. Each renewal takes the next secret. 0 says that
-- they are not transformed yet: the next start does that.
CREATE TABLE template_generation (
    generation INTEGER NOT NULL CHECK (generation >= 0)
) STRICT;

INSERT INTO template_generation SELECT iif(EXISTS (SELECT 1 FROM templates), 0, 1);

CREATE TRIGGER template_generation_grows BEFORE UPDATE ON template_generation
WHEN NEW.generation <> OLD.generation + 1
BEGIN SELECT RAISE(ABORT, 'a generation follows the one before it'); END;

CREATE TRIGGER template_generation_is_one BEFORE INSERT ON template_generation
BEGIN SELECT RAISE(ABORT, 'template_generation has one row'); END;
