"""Sosie on another machine as the engine: plans go there, renders come back, and the line in between may break.

There a worker draws what lies in a spool, whoever is connected; an attendant beside it, which ssh starts and ends,
takes plans into the spool and gives out what was drawn. Here a link asks again whenever the line comes back.
"""
