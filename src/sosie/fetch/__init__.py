"""Model files from hubs and addresses: named, resolved, downloaded, resumed, checked by digest."""
