"""Bodies that avatars are made on: rest shape, skeleton, poses, skinning and the skeleton picture
of openpose."""
