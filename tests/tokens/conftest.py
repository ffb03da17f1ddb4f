from hypothesis import settings

settings.load_profile("ci")  # the same examples every time, and none of them timed
