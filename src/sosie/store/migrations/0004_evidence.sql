-- What stands behind an identity judge's threshold is a noun of its own: other scores have none of it.

UPDATE scores SET json = json_remove(
  json_set(json, '$.evidence', CASE kind WHEN 'identity' THEN json_object(
    'rate', json_extract(json, '$.rate'),
    'joint', json_extract(json, '$.joint'),
    'others', json_extract(json, '$.others'),
    'guided_by', json_extract(json, '$.guided_by'),
    'basis', coalesce(json_extract(json, '$.basis'), '')
  ) END),
  '$.rate', '$.joint', '$.others', '$.guided_by', '$.basis'
);
